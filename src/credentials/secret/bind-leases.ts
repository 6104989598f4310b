import { type Envelope, once, sealedAnew } from '#foundation/crypto'
import { type Lease, leaseRecordName, type LeaseStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'

/**
 * Binds the leases of an earlier version to their owners and to what was asked for: they were bound only to tenant and id.
 * It happens once for an installation; from then on no lease of the earlier form is believed.
 * @param options.folder where the data keys are
 */
export const bindLeases = async (options: {
  readonly folder: string
  readonly leases: LeaseStore
  readonly envelope: Envelope
  readonly logger: Logger
}): Promise<void> => {
  const { folder, leases, envelope, logger } = options

  const bind = async (lease: Lease): Promise<void> => {
    const { tenant, id } = lease
    if (lease.sealed === null) return
    const names = { from: { tenant, kind: 'lease', id }, to: leaseRecordName(lease) }
    const sealed = await sealedAnew(envelope, lease.sealed, names)
    if (sealed === 'unreadable') logger.warn({ lease: id, tenant }, 'the login of a lease cannot be read')
    else if (sealed !== undefined) await leases.update({ ...lease, sealed })
  }

  const done = { folder, mark: 'leases-are-bound', text: 'Leases are bound to their owners and to what they are for.' }
  await once(done, async () => {
    for (const lease of await leases.list({})) await bind(lease)
  })
}
