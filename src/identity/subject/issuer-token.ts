import type { Server } from '#config'
import { assertAccessToken, assertAudience, assertPossession, assertTimes, invalid, parseClaims } from './checks.ts'
import { presentClaims, type SubjectClaims } from './claims.ts'
import type { SubjectDependencies, SubjectRequest } from './dependencies.ts'
import { verifyIssuerJwt } from './issuer-jwt.ts'
import type { VerifiedToken } from './to-subject.ts'
import { tenantOf, type Trusting, trustOf } from './trust.ts'

/** A JWT of a trusted issuer, for this server. @throws DeputyError those of `verifyIssuerJwt`, `subject_audience_mismatch`, `subject_tenant_unknown` */
export const fromJwt = async (deps: SubjectDependencies, { token, server }: SubjectRequest): Promise<VerifiedToken> => {
  const { claims, trusted } = await verifyIssuerJwt(deps, token.reveal(), server, (unverified, trust) =>
    trust.tenantOf(unverified.iss, unverified),
  )
  assertAudience(claims, server)
  assertPossession(claims, server)
  return { claims, trusted, token, how: trusted.issuer.introspection?.for === 'all' ? 'introspection' : 'jwt' }
}

/** The issuers to ask about an opaque token: those that introspect, each way of asking once. */
const introspecting = (deps: SubjectDependencies, server: Server): { asked: Trusting[]; ways: Trusting[] } => {
  const asked = trustOf(server, deps.snapshot()).all.filter(({ issuer }) => issuer.introspection !== undefined)
  const byWay = new Map(
    asked.map((trusted) => [JSON.stringify([trusted.issuer.issuer, trusted.issuer.introspection]), trusted]),
  )
  return { asked, ways: [...byWay.values()] }
}

/** What an issuer answered about an opaque token, checked like a JWT. @throws DeputyError of the category subject */
const confirmed = (
  deps: SubjectDependencies,
  answer: Readonly<Record<string, unknown>>,
  issuer: string,
  server: Server,
): SubjectClaims => {
  const claims = parseClaims({ iss: issuer, ...presentClaims(answer) })
  if (claims.iss !== issuer) throw invalid('the issuer that confirmed it names another issuer')
  // An issuer that confirms a token states that it is one to be used; other claims of its answer may have any form.
  assertAccessToken(claims, 'at+jwt')
  assertTimes(claims, deps.clock.now())
  assertAudience(claims, server)
  assertPossession(claims, server)
  return claims
}

/**
 * An opaque token does not name its issuer, and to ask an issuer about it is to show it. So it is shown to the issuers of one
 * tenant only, or to one that several tenants ask in the same way; otherwise one tenant's issuer would get to see
 * the tokens of another's users, and could vouch for them.
 */
export const fromOpaque = async (
  deps: SubjectDependencies,
  { token, server }: SubjectRequest,
): Promise<VerifiedToken> => {
  const { asked, ways } = introspecting(deps, server)
  const tenants = new Set(asked.map(({ tenant }) => tenant.tenant))
  if (ways.length > 1 && tenants.size > 1)
    throw invalid('it is opaque, and the issuers of several tenants would have to be shown it: send a JWT')
  for (const way of ways) {
    const answer = await deps.introspect(token, way.issuer, way.tenant.tenant)
    if (answer === undefined) continue
    const claims = confirmed(deps, answer, way.issuer.issuer, server)
    return { claims, trusted: tenantOf(claims, ways.length > 1 ? [way] : asked), token, how: 'introspection' }
  }
  throw invalid(
    ways.length === 0 ? 'it is no JWT, and no issuer confirms opaque tokens' : 'no trusted issuer knows it as active',
  )
}
