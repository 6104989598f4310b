import type { Downstream } from '../config/downstream.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { engineQuestionOf } from '../config/engine-question.ts'
import { servesTenant } from '../config/values.ts'
import { apiOf, isOfInstallation } from '../connector/github-app.ts'
import type { Lease } from '../store/records/leases.ts'
import { isInUse } from '../workload/registry.ts'
import { usableFor } from './target.ts'

const isMeant = (downstream: Downstream, { tenant, backend, role }: Lease): boolean => {
  if (downstream.credential === 'github_app')
    return apiOf(downstream) === backend && isOfInstallation(role, downstream, tenant)
  const asked = engineQuestionOf(downstream)
  return asked?.leased === true && asked.backend === backend && asked.role === role
}

/** Whether files still say that an owner may have this lease: tenant, server and downstream are there, in force and for each other, and it is of the role that is meant. */
export const isLeaseWanted = (snapshot: Snapshot, lease: Lease): boolean => {
  const { tenant, user, downstream } = lease
  const server = snapshot.servers.get(lease.server)
  if (
    snapshot.tenants.get(tenant)?.enabled !== true ||
    server === undefined ||
    !isInUse(server) ||
    !servesTenant(server.tenants, tenant)
  )
    return false
  const meant = usableFor(downstream, user === null ? server.own : server.downstreams, tenant, snapshot)
  return meant !== undefined && isMeant(meant, lease)
}
