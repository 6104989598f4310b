import { decodeJwt, decodeProtectedHeader, type JWTPayload } from 'jose'
import type { TokenEndpointResponse } from 'openid-client'
import type { DownstreamOf } from '../../config/downstream.ts'
import type { ProofKey } from '../../crypto/proof-key.ts'

/** The claims of an access token by RFC 9068; other tokens are nobody's to read but the service's. */
export const accessTokenClaims = (token: string): JWTPayload | undefined => {
  try {
    return /^(application\/)?at\+jwt$/i.test(String(decodeProtectedHeader(token).typ)) ? decodeJwt(token) : undefined
  } catch {
    return undefined
  }
}

/** The key that a request for a token proves, and whether the token has to be bound to it. */
export interface Proof {
  readonly key: ProofKey
  readonly required: boolean
}

/** Whether the token of an answer is bound to a key (RFC 9449 section 5). */
export const isBound = ({ token_type: type }: Pick<TokenEndpointResponse, 'token_type'>): boolean =>
  type.toLowerCase() === 'dpop'

/** RFC 9449 section 6.1: what a JWT says of the key has to be true of it. */
const isOfKey = (token: string, { jkt }: ProofKey): boolean => {
  const claims = accessTokenClaims(token)
  const confirmation = claims?.['cnf']
  return (
    claims === undefined ||
    (typeof confirmation === 'object' && confirmation !== null && 'jkt' in confirmation && confirmation.jkt === jkt)
  )
}

/** What is wrong with an answer that has the form of the standard, whatever it is for; undefined: nothing. @param proof what the request has proved */
export const problemOfAnswer = (
  answer: TokenEndpointResponse,
  audiences: readonly string[],
  proof: Proof | undefined,
): string | undefined => {
  const { access_token: token, token_type: type, expires_in: life } = answer
  const bound = isBound(answer)
  if (!(bound && proof !== undefined) && type.toLowerCase() !== 'bearer')
    return `it issued a token of type ${type.slice(0, 30)}`
  if (proof?.required === true && !bound) return 'it issued a token that is not bound to the key of the request'
  if (bound && !isOfKey(token, proof!.key)) return 'it issued a token that is bound to another key, or to none'
  if (life !== undefined && life <= 0) return 'it issued a token that has expired'
  const named = [accessTokenClaims(token)?.aud ?? []].flat()
  return audiences.length > 0 && named.length > 0 && !named.some((audience) => audiences.includes(audience))
    ? 'it issued a token for another service'
    : undefined
}

/** For whom a grant's access tokens may say that they are; empty: its downstream does not say. */
export const audiencesOf = ({
  resource,
  authorization_parameters: { audience },
}: DownstreamOf<'oauth_grant'>): string[] =>
  resource === undefined ? [] : [resource, ...(audience === undefined ? [] : [audience])]

/** Whether two access tokens say that they are for different users. */
export const isOfAnother = (before: string, after: string): boolean => {
  const [one, other] = [accessTokenClaims(before), accessTokenClaims(after)]
  return one?.sub !== undefined && other?.sub !== undefined && (one.iss !== other.iss || one.sub !== other.sub)
}
