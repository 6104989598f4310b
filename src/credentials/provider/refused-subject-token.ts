import { ResponseBodyError } from 'openid-client'
import { plainly } from './failure.ts'

const UNUSABLE = 'invalid|expired|inactive|revoked|not active|not valid|ended'
const TOKEN = '(?<![a-z])(?:token|assertion)(?![a-z_])'
/** Words about the user's token, in a code that says other things as well. */
const OF_TOKEN = new RegExp(`\\b(?:${UNUSABLE})\\b.{0,40}${TOKEN}|${TOKEN}.{0,60}\\b(?:${UNUSABLE})\\b`, 'i')
const OF_AUDIENCE = /\baudience\b/i
const OF_REQUEST = /\b(?:type|actor|requested|parameter|missing|unsupported)\b/i

/**
 * Whether a server that was shown the user's token says no because of it: `token`, the user has to sign in again;
 * `audience`, the token is not
 * meant for the client that shows it, which is for an admin to settle; undefined, the no is about something else. RFC
 * 8693
 * section 2.2.2 has `invalid_request` for all of them, RFC 7523 section 3.1 `invalid_grant`, and Keycloak says
 * "Invalid token" and, with
 * `access_denied`, "Client is not within the token audience".
 */
export const refusedSubjectToken = (thrown: unknown): 'token' | 'audience' | undefined => {
  const error = plainly(thrown)
  if (!(error instanceof ResponseBodyError)) return undefined
  const words = error.error_description ?? ''
  if (!['invalid_grant', 'invalid_token', 'invalid_request', 'access_denied'].includes(error.error)) return undefined
  if (OF_AUDIENCE.test(words) && new RegExp(TOKEN, 'i').test(words) && !/\brequested\b/i.test(words)) return 'audience'
  if (error.error === 'invalid_grant' || error.error === 'invalid_token') return 'token'
  return error.error === 'invalid_request' && OF_TOKEN.test(words) && !OF_REQUEST.test(words) ? 'token' : undefined
}
