import { type Server, userIssuerOf } from '#config'
import { refuse } from '#errors'
import { omittedOf } from './claims.ts'
import type { SubjectDependencies } from './dependencies.ts'
import { tokenIdOf, type VerifiedSubject } from './subject.ts'
import { sessionsOf, withOmitted } from './to-subject.ts'

/**
 * The user of a login session. It lasts only as long as its tenant is enabled and trusts the issuer that signed the user in.
 * @throws DeputyError `subject_session_missing`, `subject_session_not_allowed`
 */
export const fromLoginSession = async (
  deps: Pick<SubjectDependencies, 'sessions' | 'snapshot' | 'clock' | 'sessionNamed' | 'fingerprint'>,
  { uid, server }: { uid: number; server: Server },
): Promise<VerifiedSubject> => {
  if (!server.login_session) throw refuse('subject_session_not_allowed', { server: server.server })
  const session = await deps.sessions.find(uid, deps.clock.now())
  const tenant = session === undefined ? undefined : deps.snapshot().tenants.get(session.tenant)
  const trusted =
    tenant === undefined || session === undefined
      ? undefined
      : userIssuerOf(tenant, session.issuer, deps.snapshot().providers)
  if (session === undefined || tenant?.enabled !== true || trusted === undefined)
    throw refuse('subject_session_missing', { uid })
  return {
    tenant,
    user: session.user,
    issuer: session.issuer,
    groups: session.groups,
    ...withOmitted(omittedOf(session.claims, trusted)),
    claims: session.claims,
    how: 'login_session',
    issuedAt: session.signedInAt,
    earliestIssue: session.signedInAt,
    expiresAt: session.expiresAt,
    tokenId: tokenIdOf(session.issuer, `session:${uid}:${session.signedInAt}`),
    ancestors: sessionsOf(deps, session, session.claims),
    actors: [],
  }
}
