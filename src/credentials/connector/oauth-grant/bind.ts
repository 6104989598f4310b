import { type Envelope, once, sealedAnew } from '#foundation/crypto'
import { type Grant, grantRecordName, type GrantStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'

const PAGE = 500

/**
 * Binds the grants of an earlier version to their users, servers and downstreams: they were bound only to tenant and id.
 * It happens once for an installation; from then on no grant of the earlier form is believed.
 * @param options.folder where the data keys are
 */
export const bindGrants = async (options: {
  readonly folder: string
  readonly grants: GrantStore
  readonly envelope: Envelope
  readonly logger: Logger
}): Promise<void> => {
  const { folder, grants, envelope, logger } = options

  const bind = async (grant: Grant): Promise<void> => {
    const { tenant, id } = grant
    const names = { from: { tenant, kind: 'grant', id }, to: grantRecordName(grant) }
    const sealed = await sealedAnew(envelope, grant.sealed, names)
    if (sealed === 'unreadable')
      logger.warn({ grant: id, tenant }, 'a grant cannot be read; its user has to connect again')
    else if (sealed !== undefined) await grants.update({ ...grant, sealed })
  }

  const done = { folder, mark: 'grants-are-bound', text: 'Grants are bound to their users, servers and downstreams.' }
  await once(done, async () => {
    for (let after = ''; ;) {
      const page = await grants.list({}, { limit: PAGE, after })
      for (const grant of page) await bind(grant)
      const last = page.at(-1)
      if (last === undefined) return
      after = last.id
    }
  })
}
