import { type CurrentSnapshot, type Snapshot, userIssuerOf } from '#config'
import { refuse } from '#errors'
import { type ClientSignIn, knownBy } from '#identity/client'
import { type Policy, type PolicyQuestion, SIGN_IN } from '#identity/policy'
import { omittedOf } from '#identity/subject'

export interface ClientPolicyDependencies {
  readonly policy: () => Policy
  readonly snapshot: CurrentSnapshot
  readonly clock: { now(): number }
}

type AskedSignIn = Pick<ClientSignIn, 'tenant' | 'user' | 'client' | 'server' | 'groups' | 'claims'> & {
  /** The identity provider; undefined where the question is only tried. */
  readonly issuer: string | undefined
}

/**
 * What policy is asked about a user who signs in at a client.
 * @throws DeputyError `subject_claims_omitted`, `workload_unknown`, `subject_tenant_unknown`
 */
export const clientQuestion = (
  { tenant, user, client, groups, claims, issuer, server: id }: AskedSignIn,
  scopes: readonly string[],
  current: Snapshot,
  now: number,
): PolicyQuestion => {
  const server = current.servers.get(id)
  if (server === undefined) throw refuse('workload_unknown')
  const served = current.tenants.get(tenant)
  if (served === undefined) throw refuse('subject_tenant_unknown')
  const trusted = issuer === undefined ? undefined : userIssuerOf(served, issuer, current.providers)
  if (issuer !== undefined && trusted === undefined) throw refuse('subject_tenant_unknown')
  const omitted = trusted === undefined ? undefined : omittedOf(claims, trusted)
  const { acr } = claims
  return {
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
    now,
    ...(typeof acr === 'string' ? { acr } : {}),
    client: { id: client, known: knownBy(client) },
  }
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
  const { allowed } = policy().decide(clientQuestion(signIn, scopes, snapshot(), clock.now()))
  if (!allowed) throw refuse('client_denied', { client: signIn.client, server: signIn.server })
}
