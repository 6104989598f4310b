import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Envelope } from '../../crypto/envelope.ts'
import { DeputyError } from '../../errors.ts'
import type { Logger } from '../../observe/logger.ts'
import { grantRecordName, type Grant, type GrantStore } from '../../store/records/grants.ts'

/** A file beside the data keys, where who can write the store cannot remove it. */
const MARK = 'grants-are-bound'
const PAGE = 500

const isUnreadable = (error: unknown): boolean => error instanceof DeputyError && error.code === 'secret_unreadable'

/**
 * Binds the grants of an earlier version to their users, servers and downstreams: they were bound to tenant and id alone.
 * It happens once for an installation; from then on no grant of the earlier form is believed.
 * @param options.folder where the data keys are
 */
export const bindGrants = async (options: {
  readonly folder: string
  readonly grants: GrantStore
  readonly envelope: Envelope
  readonly logger: Logger
}): Promise<void> => {
  const { grants, envelope, logger } = options
  const mark = join(options.folder, MARK)
  if (existsSync(mark)) return

  const bind = async (grant: Grant): Promise<void> => {
    const name = grantRecordName(grant)
    try {
      await envelope.open(name, grant.sealed)
      return
    } catch (error) {
      if (!isUnreadable(error)) throw error
    }
    try {
      const text = await envelope.open({ tenant: grant.tenant, kind: 'grant', id: grant.id }, grant.sealed)
      await grants.update({ ...grant, sealed: await envelope.seal(name, text) })
    } catch (error) {
      if (!isUnreadable(error)) throw error
      logger.warn({ grant: grant.id, tenant: grant.tenant }, 'a grant cannot be read; its user has to connect again')
    }
  }

  for (let after = ''; ;) {
    const page = await grants.list({}, { limit: PAGE, after })
    for (const grant of page) await bind(grant)
    const last = page.at(-1)
    if (last === undefined) break
    after = last.id
  }
  await writeFile(mark, 'Grants are bound to their users, servers and downstreams.\n', { mode: 0o600 })
}
