import type { Snapshot } from '#config'
import type { Principal } from '#credentials/connector'
import { refuse } from '#errors'
import type { VerifiedSubject } from '#identity/subject'
import { assertThawed, assertUserServed } from '#identity/validity'
import type { AttestedWorkload } from '#identity/workload'
import type { Beneficiary, Caller, ExchangeContext, ExchangeDependencies, Note } from './context.ts'
import { LOGIN_SESSION_TOKEN, LOGIN_SESSION_TOKEN_TYPE, type TokenExchangeRequest } from './request.ts'

/** A login session stands for the Unix user whom the kernel names, never for one whom the request names. */
const fromLoginSession = async (
  { subjects }: ExchangeDependencies,
  { origin }: ExchangeContext,
  { server, session }: AttestedWorkload,
  request: TokenExchangeRequest,
): Promise<VerifiedSubject> => {
  // Over TCP the kernel says nothing; of an exec session it has said it when that began.
  const uid = origin.evidence.peer?.uid ?? session?.uid
  if (request.subjectToken.reveal() !== LOGIN_SESSION_TOKEN)
    throw refuse('subject_token_invalid', {
      problem: `for a login session subject_token is the word ${LOGIN_SESSION_TOKEN}`,
    })
  if (request.actorToken !== undefined)
    throw refuse('actor_token_invalid', { problem: 'a login session takes none', server: server.server })
  if (uid === undefined) throw refuse('subject_token_invalid', { problem: 'a login session needs the Unix socket' })
  const subject = await subjects.fromSession({ uid, server })
  // A started server keeps acting for the subject for which it was started.
  if (session !== undefined && (session.user !== subject.user || session.tenant !== subject.tenant.tenant))
    throw refuse('exec_session_over', {
      server: server.server,
      problem:
        session.user === undefined ? 'it acts for the server alone' : 'the Unix user has signed in as another user',
    })
  return subject
}

/** A user, or an agent. */
const principalOf = ({
  tenant: { tenant },
  user,
  agent,
}: VerifiedSubject): Extract<Principal, { kind: 'user' | 'agent' }> => {
  if (agent !== undefined) return { kind: 'agent', tenant, agent: agent.id }
  if (user === undefined) throw refuse('subject_token_invalid', { problem: 'it names neither a user nor an agent' })
  return { kind: 'user', tenant, user }
}

/**
 * Step 2, for a user or an agent: the subject token or the login session names one, whom this server serves, within the rates.
 * @throws DeputyError `subject_token_invalid` and its kin, `workload_tenant`, `subject_user_disabled`, `rate_limited`
 */
export const verifySubject = (
  deps: ExchangeDependencies,
  context: ExchangeContext,
  { workload }: Caller,
  { request, note }: { readonly request: TokenExchangeRequest; readonly note: Note },
): Promise<Beneficiary> =>
  deps.telemetry.span('deputy.verify_subject', {}, async () => {
    const { server } = workload
    const subject =
      request.subjectTokenType === LOGIN_SESSION_TOKEN_TYPE
        ? await fromLoginSession(deps, context, workload, request)
        : await deps.subjects.verify({
            token: request.subjectToken,
            tokenType: request.subjectTokenType,
            server,
            ...(request.actorToken === undefined ? {} : { actorToken: request.actorToken }),
            ...(request.actorTokenType === undefined ? {} : { actorTokenType: request.actorTokenType }),
          })
    note({ subject })
    const { tenant } = subject.tenant
    await deps.rates.admit('tenant', [tenant])
    const principal = principalOf(subject)
    if (principal.kind === 'user') await deps.rates.admit('user', [tenant, principal.user])
    else await deps.rates.admit('client', [principal.agent])
    assertUserServed(subject, server, deps)
    return {
      principal,
      subject,
      notAfter: subject.expiresAt,
      uses: server.downstreams,
      // A login session is no token of the user's.
      ...(subject.how === 'login_session'
        ? {}
        : {
            subjectToken: { token: request.subjectToken, type: request.subjectTokenType, issuer: subject.issuer },
          }),
    }
  })

/** The tenant in which a server acts for itself: the only one that it is registered for. @throws DeputyError `workload_own_tenant` */
export const ownTenant = ({ server, tenants }: AttestedWorkload['server'], snapshot: Snapshot): string => {
  const [tenant, ...others] = tenants === '*' ? snapshot.tenants.keys() : tenants
  if (tenant === undefined || others.length > 0 || snapshot.tenants.get(tenant)?.enabled !== true)
    throw refuse('workload_own_tenant', { server })
  return tenant
}

/** Step 2, for the server itself. @throws DeputyError `workload_own_tenant`, `subject_tenant_frozen`, `rate_limited` */
export const actForItself = async (
  deps: ExchangeDependencies,
  { workload: { server } }: Caller,
  note: Note,
): Promise<Beneficiary> => {
  const tenant = ownTenant(server, deps.snapshot())
  note({ tenant })
  await deps.rates.admit('tenant', [tenant])
  assertThawed(tenant, deps)
  return {
    principal: { kind: 'workload', tenant, server: server.server },
    notAfter: Infinity,
    uses: server.service_downstreams,
  }
}
