import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, errors, type JSONWebKeySet, type JWTPayload } from 'jose'
import type { Clock } from '#clock'
import type { Server } from '#config'
import { refuse } from '#errors'
import { verifyByAnyKey } from '#foundation/crypto'
import type { ReplayStore } from '#foundation/store'

/** Asymmetric ones only, so that no public key can be used as a shared secret. */
const ALGORITHMS = ['ES256', 'ES384', 'ES512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'EdDSA', 'Ed25519']
/** Seconds that an assertion may be valid at most, and by which clocks may differ. */
const MAX_LIFETIME_S = 300
const LEEWAY = 30
const TYPES = new Set([undefined, 'JWT', 'jwt', 'client-authentication+jwt'])
/** Header fields by which a token would bring its own key along (threat 14). */
const OWN_KEYS = ['jwk', 'jku', 'x5u', 'x5c']
const MAX_ASSERTION_LENGTH = 16_384

/** The client that an assertion says it is from; not believed yet. */
export const clientOf = (assertion: string): string | undefined => {
  // What is not verified yet may be of any type, whatever the declared one says.
  try {
    const sub: unknown = decodeJwt(assertion).sub
    return typeof sub === 'string' ? sub : undefined
  } catch {
    return undefined
  }
}

/** A registered client: its id, its public keys, and the name under which its assertions are remembered. */
export interface AssertingClient {
  readonly id: string
  readonly keySets: readonly { readonly keys: readonly unknown[] }[]
  readonly realm: string
}

/**
 * Verifies a client assertion (RFC 7523 section 3, rfc7523bis): signed by a registered key, from and about the
 * client, for this issuer alone, short-lived, and used once.
 * @param options.audiences the issuer first, then endpoint URLs that older clients put there
 * @throws DeputyError `workload_unverified`
 */
export const verifyAssertionOf = async (
  assertion: string,
  { id, keySets, realm }: AssertingClient,
  options: { audiences: readonly string[]; replays: ReplayStore; clock: Clock },
): Promise<void> => {
  const unverified = (problem: string, cause?: unknown) => refuse('workload_unverified', { server: id, problem }, cause)
  if (keySets.length === 0) throw unverified('it is not registered for private_key_jwt')
  const keys = { keys: keySets.flatMap((set) => set.keys) } as unknown as JSONWebKeySet

  if (assertion.length > MAX_ASSERTION_LENGTH)
    throw unverified(`the assertion is longer than ${MAX_ASSERTION_LENGTH} characters`)
  let header
  try {
    header = decodeProtectedHeader(assertion)
  } catch (error) {
    throw unverified('the assertion is no JWT', error)
  }
  if (!TYPES.has(header.typ)) throw unverified(`its typ is ${String(header.typ).slice(0, 40)}`)
  if (OWN_KEYS.some((field) => field in header)) throw unverified('it brings its own key along')
  let claims: JWTPayload
  try {
    ;({ payload: claims } = await verifyByAnyKey(assertion, createLocalJWKSet(keys), {
      algorithms: ALGORITHMS,
      issuer: id,
      subject: id,
      clockTolerance: LEEWAY,
      requiredClaims: ['exp', 'jti', 'aud'],
      currentDate: new Date(options.clock.now()),
    }))
  } catch (error) {
    throw unverified(
      error instanceof errors.JOSEError ? problemOf(error) : 'the assertion could not be checked',
      withoutClaims(error),
    )
  }
  // The audience is one text or a list of one: an assertion for several servers could be replayed among them.
  const audience = Array.isArray(claims.aud) && claims.aud.length === 1 ? claims.aud[0] : claims.aud
  if (typeof audience !== 'string' || !options.audiences.includes(audience))
    throw unverified(`its audience is not ${options.audiences[0]}`)
  const now = Math.floor(options.clock.now() / 1000)
  if (claims.exp! - now > MAX_LIFETIME_S + LEEWAY)
    throw unverified(`it is valid for longer than ${MAX_LIFETIME_S} seconds`)
  if (typeof claims.jti !== 'string' || claims.jti.length > 256)
    throw unverified('its jti is no text of at most 256 characters')
  const fresh = await options.replays.claim(realm, claims.jti, (claims.exp! + LEEWAY) * 1000)
  if (!fresh) throw unverified('its jti was used before')
}

/** The same for a server, by the keys of its file. @throws DeputyError `workload_unverified` */
export const verifyClientAssertion = (
  assertion: string,
  { server, attest }: Server,
  options: { audiences: readonly string[]; replays: ReplayStore; clock: Clock },
): Promise<void> => {
  const keySets = attest.flatMap((way) => ('private_key_jwt' in way ? [way.private_key_jwt.jwks] : []))
  return verifyAssertionOf(assertion, { id: server, keySets, realm: `client-assertion:${server}` }, options)
}

/** jose's errors carry the claims along; a log has no use for them. */
const withoutClaims = (error: unknown): Error => new Error(error instanceof Error ? error.message : 'unknown')

const problemOf = (error: errors.JOSEError): string => {
  switch (error.code) {
    case 'ERR_JWT_EXPIRED':
      return 'the assertion has expired'
    case 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED':
    case 'ERR_JWKS_NO_MATCHING_KEY':
      return 'it is not signed by a registered key'
    case 'ERR_JOSE_ALG_NOT_ALLOWED':
      return 'its algorithm is not allowed'
    case 'ERR_JWT_CLAIM_VALIDATION_FAILED':
      return `its claim ${(error as errors.JWTClaimValidationFailed).claim} is not as it should be`
    default:
      return 'the assertion is malformed'
  }
}
