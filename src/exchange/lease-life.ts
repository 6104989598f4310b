import { certificatesOf } from '../config/secret-backends.ts'
import type { Snapshot } from '../config/snapshot.ts'
import type { Lease } from '../store/store.ts'

/** Whether files still say that an owner may have this lease: tenant, server and downstream are there and in force, and it is of the role that is meant. */
export const isLeaseWanted = (snapshot: Snapshot, { tenant, server, downstream, backend, role }: Lease): boolean => {
  const status = snapshot.servers.get(server)?.status
  const meant = snapshot.downstreams.get(downstream)
  return snapshot.tenants.get(tenant)?.enabled === true && (status === 'approved' || status === 'deprecated')
    && meant?.enabled === true && ((meant.credential === 'dynamic' && meant.backend === backend) || (meant.credential === 'mtls_certificate' && certificatesOf(meant.backend) === backend)) && meant.role === role
}
