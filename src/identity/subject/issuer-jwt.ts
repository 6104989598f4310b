import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload } from 'jose'
import type { Server } from '#config'
import { DeputyError, refuse } from '#errors'
import { refusedHeaderOf, Secret, verifySignatureByAnyKey } from '#foundation/crypto'
import { assertAccessToken, assertTimes, expired, invalid, parseClaims } from './checks.ts'
import { presentClaims, type SubjectClaims } from './claims.ts'
import type { SubjectDependencies } from './dependencies.ts'
import type { IntrospectedClaims, Introspect } from './introspection.ts'
import { type Trust, type Trusting, trustOf } from './trust.ts'

/** Access tokens and nothing else: assertions, proofs and events are signed by the same keys and must not pass for one (RFC 8725 section 3.11). */
const TYPES = new Set(['jwt', 'at+jwt', 'application/at+jwt'])

/**
 * The claims with which an issuer confirms a JWT, where the tenant's file has Deputy ask it about each token. The claims of
 * the token itself are signed, and count first.
 * @throws DeputyError `subject_token_invalid` when it is not, or no longer, active there; those of introspection
 */
const confirmedClaims = async (
  introspect: Introspect,
  token: string,
  claims: JWTPayload,
  trusted: Trusting,
): Promise<IntrospectedClaims> => {
  if (trusted.issuer.introspection?.for !== 'all') return {}
  const answer = await introspect(new Secret(token), trusted.issuer, trusted.tenant.tenant)
  if (answer === undefined) throw invalid('it is no longer active at its issuer')
  const confirmed = presentClaims(answer)
  assertAccessToken(confirmed, 'at+jwt')
  for (const name of ['iss', 'sub', 'jti'] as const)
    if (confirmed[name] !== undefined && claims[name] !== undefined && confirmed[name] !== claims[name])
      throw invalid('its issuer confirms another token than this one')
  return confirmed
}

/** A JWT as its text says, before its signature is checked. @throws DeputyError `subject_token_invalid` where it is no access token */
const readUnverified = (token: string): JWTPayload => {
  let unverified: JWTPayload
  let header
  try {
    unverified = presentClaims(decodeJwt(token))
    header = decodeProtectedHeader(token)
  } catch (error) {
    throw invalid('it is no JWT', error)
  }
  const type: unknown = header.typ
  if (type !== undefined && !(typeof type === 'string' && TYPES.has(type.toLowerCase())))
    throw invalid(`its type ${String(type).slice(0, 40)} is not that of an access token`)
  const refused = refusedHeaderOf(header)
  if (refused !== undefined) throw invalid(`its header carries ${refused}`)
  assertAccessToken(unverified, type)
  return unverified
}

/**
 * Checks signature, type and times of a JWT of a trusted issuer; the caller checks its audience. Tenants that share an
 * issuer each name its keys and its algorithms. So the tenant is chosen first, by claims that are not believed yet, and
 * the token is then verified by the settings of that very tenant: no tenant can vouch for tokens of another (promise 8).
 * @throws DeputyError of the category subject, those of `choose`
 */
export const verifyIssuerJwt = async (
  deps: Pick<SubjectDependencies, 'snapshot' | 'keys' | 'introspect' | 'clock'>,
  token: string,
  server: Server,
  choose: (claims: JWTPayload, trust: Trust) => Trusting,
): Promise<{ claims: SubjectClaims; trusted: Trusting }> => {
  const unverified = readUnverified(token)
  const trust = trustOf(server, deps.snapshot())
  if (trust.of(unverified.iss).length === 0)
    throw refuse('subject_issuer_unknown', { issuer: String(unverified.iss).slice(0, 200), server: server.server })
  const trusted = choose(unverified, trust)
  try {
    await verifySignatureByAnyKey(token, deps.keys(trusted.issuer), { algorithms: [...trusted.issuer.algorithms] })
  } catch (error) {
    throw toSubjectError(error)
  }
  const claims = parseClaims({ ...(await confirmedClaims(deps.introspect, token, unverified, trusted)), ...unverified })
  if (claims.iss !== trusted.issuer.issuer) throw invalid('its claim iss is not as it should be')
  assertTimes(claims, deps.clock.now())
  return { claims, trusted }
}

/** What jose or a key found wrong. Its errors can carry the claims, which have no place in a log, so they are not passed on as a cause. */
const toSubjectError = (error: unknown): DeputyError => {
  if (error instanceof DeputyError) return error
  if (error instanceof errors.JWTExpired) return expired((error.payload.exp ?? 0) * 1000)
  if (error instanceof errors.JWTClaimValidationFailed)
    return invalid(`its claim ${error.claim} is not as it should be`)
  if (error instanceof errors.JOSEAlgNotAllowed) return invalid('its algorithm is not allowed for this issuer')
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWSSignatureVerificationFailed)
    return invalid('it is not signed by a key of its issuer')
  if (error instanceof errors.JOSEError) return invalid('it is malformed')
  // A key that cannot be used: too short, or not of the curve that it names.
  return invalid('it could not be checked with the key of its issuer', error)
}
