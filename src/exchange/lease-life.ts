import type { Snapshot } from '../config/snapshot.ts'
import { engineQuestionOf } from '../config/vault-engines.ts'
import type { Lease } from '../store/store.ts'

/** Whether files still say that an owner may have this lease: tenant, server and downstream are there and in force, and it is of the role that is meant. */
export const isLeaseWanted = (snapshot: Snapshot, { tenant, server, downstream, backend, role }: Lease): boolean => {
  const status = snapshot.servers.get(server)?.status
  const meant = snapshot.downstreams.get(downstream)
  const asked = meant === undefined ? undefined : engineQuestionOf(meant)
  return snapshot.tenants.get(tenant)?.enabled === true && (status === 'approved' || status === 'deprecated')
    && meant?.enabled === true && asked?.leased === true && asked.backend === backend && asked.role === role
}
