import type { CurrentSnapshot } from '../config/snapshot.ts'
import type { Server } from '../config/server.ts'
import { servesTenant } from '../config/values.ts'
import { refuse } from '../errors.ts'
import type { Membership } from '../revocation/lease.ts'
import { describeScope, type Reliance, type Standing } from '../revocation/standing.ts'
import type { VerifiedSubject } from '../subject/subject.ts'
import { assertApproved } from '../workload/attest.ts'
import { usableFor } from './target.ts'

export interface InForceDependencies {
  readonly snapshot: CurrentSnapshot
  readonly standing: Standing
  readonly membership: Pick<Membership, 'assertHeld'>
}

type Standings = Pick<InForceDependencies, 'standing'>

/** @throws DeputyError `revoked` */
export const assertNotRevoked = (reliance: Reliance, { standing }: Standings): void => {
  const revoked = standing.covering(reliance)
  if (revoked !== undefined)
    throw refuse('revoked', { scope: describeScope(revoked.scope), revoked_at: new Date(revoked.epoch).toISOString() })
}

/** @throws DeputyError `subject_tenant_frozen` */
export const assertThawed = (tenant: string, { standing }: Standings): void => {
  if (standing.isFrozen(tenant)) throw refuse('subject_tenant_frozen', { tenant })
}

/** @throws DeputyError `subject_tenant_frozen`, `subject_user_disabled` */
const assertEnabled = (tenant: string, user: string | undefined, deps: Standings): void => {
  assertThawed(tenant, deps)
  if (user !== undefined && deps.standing.isDisabled(tenant, user))
    throw refuse('subject_user_disabled', { tenant, user })
}

/** A good token may be of a user for whom nothing is done. @throws DeputyError `workload_tenant`, `subject_tenant_frozen`, `subject_user_disabled` */
export const assertUserServed = (
  { tenant: { tenant }, user }: VerifiedSubject,
  server: Server,
  deps: Standings,
): void => {
  if (!servesTenant(server.tenants, tenant)) throw refuse('workload_tenant', { server: server.server, tenant })
  assertEnabled(tenant, user, deps)
}

/**
 * Asks again whether what somebody relies on stands: nothing of it was revoked (promise 4), and what an admin or a file has
 * disabled or taken away meanwhile is so (threat 15).
 * @param generation of the configuration for which files were asked already
 * @throws DeputyError `lease_lost` and what says who or what has ended
 */
export const assertInForce = (reliance: Reliance, deps: InForceDependencies, generation?: number): void => {
  deps.membership.assertHeld()
  assertNotRevoked(reliance, deps)
  const { tenant, user, server, downstream } = reliance
  assertEnabled(tenant, user, deps)
  const current = deps.snapshot()
  if (current.generation === generation) return
  const registered = current.servers.get(server)
  if (registered === undefined) throw refuse('workload_unknown')
  assertApproved(registered)
  if (current.tenants.get(tenant)?.enabled !== true) throw refuse('subject_tenant_unknown')
  if (!servesTenant(registered.tenants, tenant)) throw refuse('workload_tenant', { server, tenant })
  const uses = user === undefined ? registered.own : registered.downstreams
  if (downstream !== undefined && usableFor(downstream, uses, tenant, current) === undefined)
    throw refuse('target_unknown', { target: downstream, server })
}
