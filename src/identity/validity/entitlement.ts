import { type Downstream, type Server, servesTenant, type Snapshot, type Tenant } from '#config'
import { DeputyError, refuse } from '#errors'
import { agentOf } from '#identity/client'
import { assertApproved } from '#identity/workload'

/** Whom a credential, a token, a session or a page is for, as far as the files have a say in it. */
export interface EntitlementQuestion {
  readonly tenant: string
  /** The user for whom the server acts; without one, and without an agent, the server acts for itself. */
  readonly user?: string | undefined
  /** The agent for which it acts. */
  readonly agent?: string | undefined
  readonly server: string
  /** Every downstream that it is for; empty for what names none, such as a user's session at the server. */
  readonly downstreams: readonly string[]
}

/** What the files say of those for whom something is. */
export interface Entitlement {
  readonly tenant: Tenant
  readonly server: Server
  readonly downstreams: readonly Downstream[]
}

/** A downstream that is enabled for the tenant, if the server is registered for it. */
export const usableFor = (
  id: string,
  uses: Server['downstreams'],
  tenant: string,
  { downstreams }: Snapshot,
): Downstream | undefined => {
  const downstream = Object.hasOwn(uses, id) ? downstreams.get(id) : undefined
  return downstream !== undefined && downstream.enabled && servesTenant(downstream.tenants, tenant)
    ? downstream
    : undefined
}

/** The downstreams that a server is registered for: on behalf of its callers, who are users and agents, or for itself. */
export const usesOf = (
  server: Server,
  { user, agent }: Pick<EntitlementQuestion, 'user' | 'agent'>,
): Server['downstreams'] =>
  user === undefined && agent === undefined ? server.service_downstreams : server.downstreams

/**
 * Whether the files still allow this server, for this tenant and user, at these downstreams. Every part of Deputy that hands
 * something out, confirms that it is valid, or continues to use it, asks this one function (threat 15).
 * @throws DeputyError `workload_unknown`, `workload_proposed` and the like, `subject_tenant_unknown`, `workload_tenant`, `target_unknown`
 */
export const entitlement = (
  snapshot: Snapshot,
  { tenant, user, agent, server, downstreams }: EntitlementQuestion,
): Entitlement => {
  const registered = snapshot.servers.get(server)
  if (registered === undefined) throw refuse('workload_unknown')
  assertApproved(registered)
  const served = snapshot.tenants.get(tenant)
  if (served?.enabled !== true) throw refuse('subject_tenant_unknown')
  if (!servesTenant(registered.tenants, tenant)) throw refuse('workload_tenant', { server, tenant })
  if (agent !== undefined && agentOf(agent, tenant, snapshot) === undefined)
    throw refuse('subject_client_disabled', { client: agent })
  const uses = usesOf(registered, { user, agent })
  return {
    tenant: served,
    server: registered,
    downstreams: downstreams.map((id) => {
      const downstream = usableFor(id, uses, tenant, snapshot)
      if (downstream === undefined) throw refuse('target_unknown', { target: id, server })
      return downstream
    }),
  }
}

/** Whether `entitlement` has an answer. */
export const isEntitled = (snapshot: Snapshot, question: EntitlementQuestion): boolean => {
  try {
    entitlement(snapshot, question)
    return true
  } catch (error) {
    if (error instanceof DeputyError) return false
    throw error
  }
}
