import {
  AuthorizationResponseError,
  ClientError,
  ResponseBodyError,
  WWWAuthenticateChallengeError,
} from 'openid-client'
import { z } from 'zod'
import { DeputyError } from '#errors'
import { struck, told, readRetryAfter } from '#foundation/outbound'

/**
 * How a request to a provider went wrong.
 * `denied`: the provider says that the grant has ended. `challenged`: it requires the user to sign in again. `refused`: it refuses for another reason. `not_sent`: it cannot have
 * acted on the request. `lost`: it may have acted, and its answer is not known. `unverified`: it answered, and the
 * answer is not valid.
 */
export type CallFailure = 'denied' | 'challenged' | 'refused' | 'not_sent' | 'lost' | 'unverified'

const NOT_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
])

const codeOf = (error: unknown): string | undefined => {
  for (let each = error; each instanceof Error; each = each.cause)
    if ('code' in each && NOT_SENT.has(String(each.code))) return String(each.code)
  return undefined
}

/** Statuses by which a server, or a proxy in front of it, says that it has not acted on the request. */
const BUSY = new Set([408, 425, 429])

/** Error codes by which a provider asks for the user (OpenID Connect Core section 3.1.2.6, RFC 9470). */
const ASKS_FOR_USER = new Set([
  'interaction_required',
  'login_required',
  'consent_required',
  'insufficient_user_authentication',
])

const MAX_CLAIMS_LENGTH = 4000

/**
 * The claims challenge of an error: a JSON object to send with the next authorization request
 * (https://learn.microsoft.com/en-us/entra/identity-platform/claims-challenge).
 */
export const challengeIn = (error: unknown): { readonly claims?: string } => {
  const claims: unknown = error instanceof ResponseBodyError ? error.cause['claims'] : undefined
  if (typeof claims !== 'string' || claims.length > MAX_CLAIMS_LENGTH) return {}
  try {
    return z.record(z.string(), z.unknown()).safeParse(JSON.parse(claims)).success ? { claims } : {}
  } catch {
    return {}
  }
}

/** Deputy's own refusal, such as that of its egress, inside the error that a client library made of it; any other error unchanged. */
export const plainly = (error: unknown): unknown => {
  for (let each = error; each instanceof Error; each = each.cause) if (each instanceof DeputyError) return each
  return error
}

export const failureOf = (thrown: unknown): CallFailure => {
  const error = plainly(thrown)
  // An answer that was too long to read is an answer nevertheless.
  if (error instanceof DeputyError) return error.facts['answered'] === 'yes' ? 'lost' : 'not_sent'
  if (error instanceof ResponseBodyError) {
    if (ASKS_FOR_USER.has(error.error) || challengeIn(error).claims !== undefined) return 'challenged'
    if (error.error === 'invalid_grant') return 'denied'
    return BUSY.has(error.status) || error.error === 'temporarily_unavailable' || error.error === 'slow_down'
      ? 'not_sent'
      : 'refused'
  }
  if (error instanceof AuthorizationResponseError || error instanceof WWWAuthenticateChallengeError) return 'refused'
  if (codeOf(error) !== undefined) return 'not_sent'
  if (error instanceof ClientError && error.cause instanceof Response)
    // A gateway's 503 says that no server had the request; its 502 and 504 come also where one had.
    return error.cause.status >= 500
      ? error.cause.status === 503
        ? 'not_sent'
        : 'lost'
      : error.cause.status === 200
        ? 'unverified'
        : BUSY.has(error.cause.status)
          ? 'not_sent'
          : 'refused'
  if (
    error instanceof ClientError &&
    (error.code?.startsWith('OAUTH_') ?? false) &&
    error.code !== 'OAUTH_TIMEOUT' &&
    error.code !== 'OAUTH_ABORT'
  )
    return 'unverified'
  return 'lost'
}

/** Deputy's own refusal before anything was sent, such as for a user without a name at the provider: the provider had no part in it. */
export const isOwnRefusal = (error: unknown): boolean =>
  plainly(error) instanceof DeputyError && failureOf(error) === 'not_sent'

/** A gateway without a server for the request: a retry within a second finds none either, and delays other requests. */
export const isGatewayWithoutServer = (error: unknown): boolean =>
  error instanceof ClientError && error.cause instanceof Response && error.cause.status === 503

const toldOf = (seen: string): string => {
  const words = told(seen)
  return words === '' ? '' : ` (${words})`
}

const wordsSchema = z.object({ error: z.string(), error_description: z.string().optional() })

/** The provider's own words, for the record: its error code and description, or the text of its answer; anything that could be a token is redacted. @param seen the text of its answer */
export const wordsOf = (thrown: unknown, seen = ''): string => {
  const error = plainly(thrown)
  if (error instanceof DeputyError) return error.message
  const said = wordsSchema.safeParse(error instanceof ResponseBodyError ? error.cause : undefined)
  if (said.success)
    return `${struck(said.data.error)}${said.data.error_description === undefined ? '' : `: ${struck(said.data.error_description)}`}`
  switch (failureOf(error)) {
    case 'not_sent':
      return `it could not be reached (${codeOf(error) ?? 'it is busy'})`
    case 'lost':
      return 'its answer did not arrive'
    case 'refused':
      if (error instanceof WWWAuthenticateChallengeError)
        return `it answered ${error.status} and did not say why${toldOf(seen)}`
      return `its answer is not what the standard says${toldOf(seen)}`
    default:
      return `its answer is not what the standard says${toldOf(seen)}`
  }
}

/** How long a caller waits before it tries again, where the provider names no time (ms). */
export const DEFAULT_WAIT_MS = 5000
/** Deputy follows a `Retry-After` for at most this time (ms). */
export const MAX_WAIT_MS = 900_000

/** The answer that an error is about; undefined where there was none. */
const responseOf = (error: unknown): Response | undefined =>
  error instanceof ResponseBodyError
    ? error.response
    : error instanceof ClientError && error.cause instanceof Response
      ? error.cause
      : undefined

/** `Retry-After` of an answer that rejects the request for now (RFC 9110 section 10.2.3), in ms; undefined where it has none. */
export const retryAfterOf = (error: unknown, now: number): number | undefined => {
  const response = responseOf(error)
  const isBusy = response !== undefined && (BUSY.has(response.status) || response.status === 503)
  const wait = isBusy ? readRetryAfter(response.headers.get('retry-after'), now) : undefined
  return wait !== undefined && wait > 0 ? Math.min(wait, MAX_WAIT_MS) : undefined
}
