import { type Downstream, engineQuestionOf, type Snapshot } from '#config'
import { apiOf, isOfInstallation } from '#credentials/connector'
import type { Lease } from '#foundation/store'
import { isEntitled } from '#identity/validity'

const isMeant = (downstream: Downstream, { tenant, backend, role }: Lease): boolean => {
  if (downstream.credential === 'github_app')
    return apiOf(downstream) === backend && isOfInstallation(role, downstream, tenant)
  const asked = engineQuestionOf(downstream)
  return asked?.leased === true && asked.backend === backend && asked.role === role
}

/** Whether files still say that an owner may have this lease: tenant, server and downstream are there, in force and for each other, and it is of the role that is meant. */
export const isLeaseWanted = (snapshot: Snapshot, lease: Lease): boolean => {
  const { tenant, user, server, downstream } = lease
  const meant = snapshot.downstreams.get(downstream)
  return (
    meant !== undefined &&
    isMeant(meant, lease) &&
    isEntitled(snapshot, { tenant, user: user ?? undefined, server, downstreams: [downstream] })
  )
}
