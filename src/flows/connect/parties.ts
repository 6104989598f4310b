import type { CurrentSnapshot, DownstreamOf, Server, Snapshot, Tenant } from '#config'
import { DeputyError, refuse } from '#errors'
import type { GrantOwner } from '#foundation/store'
import { isInUse } from '#identity/workload'
import { assertEnabled, entitlement, type RevocationIndex } from '#identity/validity'
import type { ConnectRequest } from './attempt.ts'

interface Deps {
  readonly snapshot: CurrentSnapshot
  readonly revocationIndex: RevocationIndex
}

const unavailable = (): DeputyError =>
  refuse('connect_invalid', { problem: 'the server or the service is no longer available' })

/** Why the files say no is for the admin; the user learns that the link leads nowhere. */
const asUnavailable = <T>(work: () => T): T => {
  try {
    return work()
  } catch (error) {
    throw error instanceof DeputyError ? unavailable() : error
  }
}

/** @throws DeputyError `subject_tenant_unknown` */
export const tenantInForce = (snapshot: Snapshot, id: string): Tenant => {
  const tenant = snapshot.tenants.get(id)
  if (tenant?.enabled !== true) throw refuse('subject_tenant_unknown')
  return tenant
}

/** @throws DeputyError `subject_tenant_unknown`, `subject_tenant_frozen`, `subject_user_disabled` */
export const assertMaySignIn = (deps: Deps, tenant: string, user: string): void => {
  tenantInForce(deps.snapshot(), tenant)
  assertEnabled(tenant, user, deps)
}

/**
 * The server and the service of a connect request, as the files and the admin allow them now: every step asks again, because
 * either may have been taken away since the link was made.
 * @throws DeputyError `connect_invalid`, `subject_tenant_frozen`, `subject_user_disabled`
 */
export const partiesOf = (
  deps: Deps,
  { tenant, user, server, downstream }: ConnectRequest,
): { server: Server; downstream: DownstreamOf<'oauth_grant'> | DownstreamOf<'id_jag'> } => {
  assertEnabled(tenant, user, deps)
  const found = asUnavailable(() => entitlement(deps.snapshot(), { tenant, user, server, downstreams: [downstream] }))
  const [service] = found.downstreams
  if (service?.credential !== 'oauth_grant' && service?.credential !== 'id_jag') throw unavailable()
  return { server: found.server, downstream: service }
}

/** The parties of a wish that ends in a grant, and so begins with consent. @throws as `partiesOf` */
export const grantPartiesOf = (
  deps: Deps,
  wish: ConnectRequest,
): { server: Server; downstream: DownstreamOf<'oauth_grant'> } => {
  const { server, downstream } = partiesOf(deps, wish)
  if (downstream.credential !== 'oauth_grant') throw unavailable()
  return { server, downstream }
}

export const ownerOf = ({ tenant, user, server, downstream }: ConnectRequest): GrantOwner => ({
  tenant,
  user,
  server,
  downstream,
})

/** A server at which users sign in through Deputy. @throws DeputyError `connect_invalid` */
export const serverOf = (snapshot: Snapshot, id: string): Server => {
  const server = snapshot.servers.get(id)
  if (server === undefined || !isInUse(server) || server.sign_in !== 'deputy')
    throw refuse('connect_invalid', { problem: 'the server is no longer available' })
  return server
}
