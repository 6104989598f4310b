import { decodeJwt, decodeProtectedHeader, type JWTPayload } from 'jose'
import type { TokenEndpointResponse } from 'openid-client'
import type { ProvidedDownstream, Provider } from '#config'
import type { ProofKey } from '#foundation/crypto'

/**
 * The claims of an access token: one by RFC 9068, or a JWT of the provider itself, whatever its header says, because
 * most
 * providers write `typ: JWT`. Only their service may read other tokens.
 * @param issuer of the provider, undefined where its file names none
 */
export const accessTokenClaims = (token: string, issuer: string | undefined): JWTPayload | undefined => {
  try {
    const claims = decodeJwt(token)
    const isDeclared = /^(application\/)?at\+jwt$/i.test(String(decodeProtectedHeader(token).typ))
    return isDeclared || (issuer !== undefined && claims.iss === issuer) ? claims : undefined
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
const isOfKey = (claims: JWTPayload | undefined, { jkt }: ProofKey): boolean => {
  const confirmation = claims?.['cnf']
  return (
    claims === undefined ||
    (typeof confirmation === 'object' && confirmation !== null && 'jkt' in confirmation && confirmation.jkt === jkt)
  )
}

/**
 * Whether a bearer token is bound to a key after all, and that is not the certificate by which Deputy has shown itself
 * (RFC 8705 section 3).
 */
const isOfUnknownKey = (
  confirmation: unknown,
  { client_authentication: authentication }: Pick<Provider, 'client_authentication'>,
): boolean =>
  typeof confirmation === 'object' &&
  confirmation !== null &&
  !('x5t#S256' in confirmation && authentication === 'tls_client_auth')

/** What an answer is held to. */
export interface Expected {
  readonly provider: Pick<Provider, 'issuer' | 'client_authentication'>
  /** For whom the token may be; empty: the downstream's file does not say. */
  readonly audiences: readonly string[]
  /** What the request has proved. */
  readonly proof: Proof | undefined
  /** Whether the token has to say who acts (RFC 8693 section 4.1), where it is one that can be read. */
  readonly actor?: boolean
}

/** What is wrong with an answer that has the form of the standard, whatever it is for; undefined: nothing. */
export const problemOfAnswer = (
  answer: TokenEndpointResponse,
  { provider, audiences, proof, actor = false }: Expected,
): string | undefined => {
  const { access_token: token, token_type: type, expires_in: life } = answer
  const bound = isBound(answer)
  const claims = accessTokenClaims(token, provider.issuer)
  if (!(bound && proof !== undefined) && type.toLowerCase() !== 'bearer')
    return `it issued a token of type ${type.slice(0, 30)}`
  if (proof?.required === true && !bound) return 'it issued a token that is not bound to the key of the request'
  if (bound && !isOfKey(claims, proof!.key)) return 'it issued a token that is bound to another key, or to none'
  if (!bound && isOfUnknownKey(claims?.['cnf'], provider))
    return 'it issued a token that is bound to a key, so that its service accepts it only from the owner of the key'
  if (life !== undefined && life <= 0) return 'it issued a token that has expired'
  // The provider's JSON: any form is possible, whatever the type says.
  const named = [claims?.aud ?? []].flat() as unknown[]
  if (audiences.length > 0 && named.length > 0 && !audiences.some((audience) => named.includes(audience)))
    return `it issued a token for another service (aud ${shownTexts(named)}); if that is what the provider calls the service, an admin adds it to token_audiences in the downstream's file`
  return actor && claims !== undefined && !isActor(claims['act'])
    ? 'it issued a token that does not say who acts, and the file of the downstream promises that (actor: client)'
    : undefined
}

/** For messages: only texts, without characters that control a terminal. */
const shownTexts = (values: readonly unknown[]): string =>
  values
    .map((each) => (typeof each === 'string' ? each.replace(/[^\x20-\x7e]/g, '?') : 'no text'))
    .join(', ')
    .slice(0, 200)

const isActor = (act: unknown): boolean =>
  typeof act === 'object' && act !== null && ('sub' in act || 'client_id' in act)

/** For whom the tokens of a downstream may say that they are; empty: its file does not say. */
export const audiencesOf = (downstream: ProvidedDownstream): readonly string[] => {
  const { resource, token_audiences: others } = downstream
  const audience =
    downstream.credential === 'oauth_grant' ? downstream.authorization_parameters['audience'] : downstream.audience
  return [resource, audience, ...others].filter((each) => each !== undefined)
}

/** Whether two access tokens say that they are for different users. */
export const isOfAnother = (before: string, after: string, issuer: string | undefined): boolean => {
  const [one, other] = [accessTokenClaims(before, issuer), accessTokenClaims(after, issuer)]
  return one?.sub !== undefined && other?.sub !== undefined && (one.iss !== other.iss || one.sub !== other.sub)
}
