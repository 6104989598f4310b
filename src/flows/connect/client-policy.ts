import { type CurrentSnapshot, userIssuerOf } from '#config'
import { refuse } from '#errors'
import { type ClientSignIn, knownBy } from '#identity/client'
import { type Policy, SIGN_IN } from '#identity/policy'
import { omittedOf } from '#identity/subject'

export interface ClientPolicyDependencies {
  readonly policy: () => Policy
  readonly snapshot: CurrentSnapshot
  readonly clock: { now(): number }
}

/**
 * Policy lets a client have tokens of a server for a user: before the user is asked, and before each token leaves.
 * @throws DeputyError `client_denied`, `subject_claims_omitted`, `workload_unknown`, `subject_tenant_unknown`
 */
export const assertClientPermitted = (
  { policy, snapshot, clock }: ClientPolicyDependencies,
  signIn: Pick<ClientSignIn, 'tenant' | 'user' | 'client' | 'server' | 'groups' | 'claims' | 'issuer'>,
  scopes: readonly string[],
): void => {
  const current = snapshot()
  const { tenant, user, client, groups, claims } = signIn
  const server = current.servers.get(signIn.server)
  if (server === undefined) throw refuse('workload_unknown')
  const served = current.tenants.get(tenant)
  const trusted = served === undefined ? undefined : userIssuerOf(served, signIn.issuer, current.providers)
  if (trusted === undefined) throw refuse('subject_tenant_unknown')
  const omitted = omittedOf(claims, trusted)
  const { acr } = claims
  const { allowed } = policy().decide({
    principal: { kind: 'user', tenant, user, groups, claims, ...(omitted === undefined ? {} : { omitted }) },
    action: SIGN_IN,
    server: {
      id: server.server,
      owner: server.owner,
      status: server.status,
      ...(server.team === undefined ? {} : { team: server.team }),
    },
    downstream: { id: server.server },
    tenant,
    scopes: scopes.toSorted(),
    environment: current.settings.environment,
    narrows: [],
    now: clock.now(),
    ...(typeof acr === 'string' ? { acr } : {}),
    client: { id: client, known: knownBy(client) },
  })
  if (!allowed) throw refuse('client_denied', { client, server: server.server })
}
