/** Error codes that the OAuth family of standards defines and that the local API answers with. */
export type OAuthErrorCode =
  | 'invalid_request' // RFC 6749 5.2; RFC 8693 2.2.2 also for an unacceptable subject or actor token
  | 'invalid_client'
  | 'invalid_grant'
  | 'unauthorized_client'
  | 'unsupported_grant_type'
  | 'invalid_scope'
  | 'insufficient_scope' // RFC 6750 3.1: the user's own token
  | 'invalid_target' // RFC 8693 2.2.2, RFC 8707 2
  | 'access_denied' // RFC 6749 4.1.2.1, used when policy denies
  | 'invalid_authorization_details' // RFC 9396 5
  | 'invalid_dpop_proof' // RFC 9449 5
  | 'use_dpop_nonce' // RFC 9449 8
  | 'invalid_redirect_uri' // RFC 7591 3.2.2
  | 'invalid_client_metadata' // RFC 7591 3.2.2
  | 'interaction_required' // OpenID Connect Core 3.1.2.6
  | 'temporarily_unavailable'
  | 'server_error'

/** The part of Deputy in which a request ended: a bounded value, for metrics. */
export type ErrorCategory =
  | 'request'
  | 'workload'
  | 'subject'
  | 'policy'
  | 'target'
  | 'grant'
  | 'provider'
  | 'secret'
  | 'audit'
  | 'revocation'
  | 'config'
  | 'store'
  | 'proxy'
  | 'internal'

/** One row of the table. */
export interface ErrorKind {
  readonly status: number
  readonly oauth: OAuthErrorCode
  readonly category: ErrorCategory
  readonly retryable: boolean
  readonly sentence: string
  readonly next: string
}

/** A row of the table. @param sentence what happened @param next what to do about it; both may name `{facts}` of the error */
export const kind = (answer: Omit<ErrorKind, 'sentence' | 'next'>, sentence: string, next: string): ErrorKind => ({
  ...answer,
  sentence,
  next,
})
