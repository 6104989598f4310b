import type { Secret } from '#foundation/crypto'
import { actorsOf, confirmationOf, earliestIssueOf, endOf, invalid } from './checks.ts'
import { groupsOf, omittedOf, type OmittedClaims, scopesOf, type SubjectClaims, userOf } from './claims.ts'
import type { SubjectDependencies } from './dependencies.ts'
import { identify, sessionsIn, type VerifiedSubject } from './subject.ts'
import type { Trusting } from './trust.ts'

/** Claims that an issuer left out, as a part of a subject; nothing where none was left out. */
export const withOmitted = (omitted: OmittedClaims | undefined): { omitted?: OmittedClaims } =>
  omitted === undefined ? {} : { omitted }

/** The sessions that a token or a sign-in names; the daemon learns that its issuer names sessions. */
export const sessionsOf = (
  deps: Pick<SubjectDependencies, 'sessionNamed' | 'fingerprint'>,
  of: { readonly tenant: string; readonly issuer: string },
  claims: Readonly<Record<string, unknown>>,
): readonly string[] => {
  const sessions = sessionsIn(of, claims, deps.fingerprint)
  if (sessions.length > 0) deps.sessionNamed?.({ tenant: of.tenant, issuer: of.issuer })
  return sessions
}

/** A token of an issuer whose signature or introspection, times, audience and possession were checked. */
export interface VerifiedToken {
  readonly claims: SubjectClaims
  readonly trusted: Trusting
  readonly token: Secret
  readonly how: VerifiedSubject['how']
}

/** The user whom a verified token names. @throws DeputyError `subject_token_invalid` where its session may have ended */
export const toSubject = (
  deps: Pick<SubjectDependencies, 'watchClaims' | 'sessionNamed' | 'fingerprint' | 'clock'>,
  { claims, trusted: { tenant, issuer }, token, how }: VerifiedToken,
): VerifiedSubject => {
  deps.watchClaims?.(tenant.tenant, issuer, claims)
  const sessions = sessionsOf(deps, { tenant: tenant.tenant, issuer: issuer.issuer }, claims)
  const expiresAt = endOf(claims, sessions, issuer.session_lifetime)
  if (expiresAt <= deps.clock.now())
    throw invalid('it names a session, and is older than a logout of that is remembered, or does not say its age')
  return {
    tenant,
    user: userOf(claims, issuer),
    issuer: issuer.issuer,
    groups: groupsOf(claims, issuer),
    ...withOmitted(omittedOf(claims, issuer)),
    claims,
    scopes: scopesOf(claims),
    how,
    ...(claims.acr === undefined ? {} : { acr: claims.acr }),
    // A token that does not say when it was issued was issued before every revocation: the cautious reading.
    issuedAt: Math.min((claims.iat ?? 0) * 1000, deps.clock.now()),
    earliestIssue: earliestIssueOf(claims.iat),
    expiresAt,
    tokenId: identify({ issuer: issuer.issuer, jti: claims.jti, token }, deps.fingerprint),
    ancestors: sessions,
    actors: actorsOf(claims),
    ...confirmationOf(claims),
  }
}
