import type { Secret } from '#foundation/crypto'
import type { CallerEvidence } from '#identity/workload'
import type { TokenTypeUri } from '#oauth'
import type { Injection } from './injection.ts'

/** Where a token request comes from and how it is told apart from every other. */
export interface RequestOrigin {
  readonly correlationId: string
  /** W3C trace context of the caller, when it sent one. */
  readonly traceparent?: string
  readonly evidence: CallerEvidence
}

/** What the audit log keeps of a call before it is made. */
export interface ToolCallFacts {
  readonly api: string
  readonly operation: string
  /** SHA-256 of the arguments. */
  readonly digest: string
  /** Present only where the file of the API asks for it. */
  readonly arguments?: unknown
}

/** What both grants have in common: targets, scopes and the kind of token wanted. Parsed, not yet allowed. */
export interface TokenRequest {
  /** Ids of downstreams (RFC 8693 section 2.1, `audience`). */
  readonly audiences: readonly string[]
  /** Their URIs (RFC 8707 section 2, `resource`). */
  readonly resources: readonly string[]
  /** Undefined: all that the server is registered for. */
  readonly scopes?: readonly string[]
  readonly requestedTokenType?: TokenTypeUri
  /** A DPoP proof (RFC 9449 section 5) that came along. */
  readonly proof?: string
  /** The MCP tool that is being called, for policy and the record. */
  readonly tool?: string
  /** What was issued for the same request before, where its service refused it (401). */
  readonly rejected?: Secret
  /** The call of an operation of an API that needs the credential, for the record. */
  readonly call?: ToolCallFacts
  /** Set by the proxy and by tools of APIs alone: what is issued is put into this request. */
  readonly injection?: Injection
}

/** A token exchange (RFC 8693 section 2.1). */
export interface TokenExchangeRequest extends TokenRequest {
  readonly subjectToken: Secret
  readonly subjectTokenType: TokenTypeUri
  readonly actorToken?: Secret
  readonly actorTokenType?: TokenTypeUri
}

/** Ours: the subject is the Unix user at the other end of the socket, who has signed in with `deputy login`. */
export const LOGIN_SESSION_TOKEN_TYPE: TokenTypeUri = 'urn:deputy:params:oauth:token-type:login-session'
/** The one value that `subject_token` has for that type: it says that the session is meant, and holds no secret. */
export const LOGIN_SESSION_TOKEN = 'current'
