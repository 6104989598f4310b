import { resolve } from 'node:path'
import type { Clock, Random } from '#clock'
import { type OwnKeys, type Settings, tenantOfDataKey } from '#config'
import type { KeysAndStore } from '#daemon/foundation'
import { DeputyError, refuse } from '#errors'
import { dropEarlierKeys, prependKey } from '#foundation/crypto'
import type { SealedRecord } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'

/** Records that are sealed anew at once, and looked for in one go. */
const AT_ONCE = 100

interface Resealing {
  readonly envelope: KeysAndStore['envelope']
  readonly store: KeysAndStore['store']
  readonly clock: Clock
  readonly logger: Logger
}

/** Seals a record under the current data key of its tenant. @returns `in use` where the record changed meanwhile */
const sealAnew = async (
  { envelope, store, clock, logger }: Resealing,
  record: SealedRecord,
): Promise<'done' | 'in use' | 'unreadable'> => {
  try {
    return (await store.sealed.replace(
      record,
      await envelope.seal(record.name, await envelope.open(record.name, record.sealed)),
      clock.now(),
    ))
      ? 'done'
      : 'in use'
  } catch (error) {
    if (!(error instanceof DeputyError && error.code === 'secret_unreadable')) throw error
    logger.error(
      { tenant: record.name.tenant, kind: record.name.kind, id: record.name.id },
      'a sealed record cannot be read, and is left as it is',
    )
    return 'unreadable'
  }
}

/**
 * Seals every record that is under one of the keys anew.
 * @returns how many records were sealed anew
 * @throws DeputyError `conflict` while the records that are left are in use
 */
const resealAll = async (parts: Resealing, tenant: string, keys: readonly string[]): Promise<number> => {
  let count = 0
  // A record that cannot be opened now could not be opened before either: no key needs to be kept for it.
  for (let unreadable = 0; ;) {
    const records = await parts.store.sealed.under(tenant, keys, unreadable + AT_ONCE)
    const {
      done = [],
      'in use': inUse = [],
      unreadable: lost = [],
    } = Object.groupBy(await Promise.all(records.map((record) => sealAnew(parts, record))), (outcome) => outcome)
    count += done.length
    if (inUse.length > 0 && done.length === 0)
      throw refuse('conflict', { what: `records of ${tenant} that are in use` })
    if (records.length === lost.length) return count
    unreadable = lost.length
  }
}

/**
 * Changes Deputy's own keys. A signing key that is over stays published until its last token has expired; a new
 * key-encryption key wraps every data key anew, and both are in the file until that is done; an earlier data key
 * keeps opening records until none is sealed under it any more.
 */
export const createOwnKeys = (options: {
  keysAndStore: Pick<KeysAndStore, 'envelope' | 'signingKeys' | 'readKek' | 'alone' | 'store'>
  settings: Pick<Settings, 'kek'>
  home: string
  clock: Clock
  random: Random
  logger: Logger
}) => {
  const {
    keysAndStore: { envelope, signingKeys, readKek, alone, store },
    settings: { kek },
    home,
    clock,
    random,
  } = options
  const path = 'file' in kek ? resolve(home, kek.file) : undefined
  /** Wraps every data key by the key that is in force, and forgets those before it. */
  const rewrap = () =>
    alone(async () => {
      const now = await readKek()
      const rewrapped = await envelope.rewrap(now)
      if (path !== undefined) await dropEarlierKeys(path)
      return { id: now.id, rewrapped }
    })

  const idsOf = async (tenant: string): Promise<[string | undefined, string[]]> => {
    const [current, ...earlier] = await envelope.idsOf(tenant)
    return [current, earlier]
  }

  return {
    async current(keys: OwnKeys): Promise<string> {
      const tenant = tenantOfDataKey(keys)
      if (tenant !== undefined) return (await idsOf(tenant))[0] ?? 'none'
      return keys === 'signing-keys' ? signingKeys.kid('token') : (await readKek()).id
    },
    async isKnown(keys: OwnKeys, id: string): Promise<boolean> {
      const tenant = tenantOfDataKey(keys)
      return tenant === undefined ? id === (await this.current(keys)) : (await envelope.idsOf(tenant)).includes(id)
    },
    /** The signing keys in force, by purpose. */
    signingKids: () => signingKeys.kids(),
    /** Tenants that have a data key, Deputy itself among them. */
    tenants: () => envelope.tenants(),
    rewrap,
    /** @returns the id of the new one, and how many data keys it wraps now. @throws DeputyError `rotation_not_possible` for a key-encryption key that is not ours to make */
    async rotate(keys: OwnKeys): Promise<{ id: string; rewrapped: number }> {
      const tenant = tenantOfDataKey(keys)
      if (tenant !== undefined) return alone(async () => ({ id: await envelope.addKey(tenant), rewrapped: 0 }))
      if (keys === 'signing-keys')
        return alone(async () => {
          await signingKeys.refresh()
          await signingKeys.rotateWhenDue(true)
          return { id: signingKeys.kid('token'), rewrapped: 0 }
        })
      if (path === undefined)
        throw refuse('rotation_not_possible', {
          problem:
            'the key-encryption key is in no file; change it where it is, then wrap the data keys anew with `deputy key rotate`',
        })
      await prependKey(path, random)
      return rewrap()
    },
    /**
     * Seals anew what is under earlier data keys of the tenant, and forgets those.
     * @returns how many records were sealed anew
     * @throws DeputyError `conflict` while a record is in use: the call is to be repeated
     */
    async endEarlier(tenant: string): Promise<number> {
      const [, earlier] = await idsOf(tenant)
      if (earlier.length === 0) return 0
      const count = await resealAll({ envelope, store, clock, logger: options.logger }, tenant, earlier)
      await alone(() => envelope.dropEarlierKeys(tenant))
      return count
    },
    /** Whether there is a file in which a new one can be put. */
    canRotate: (keys: OwnKeys): boolean => keys !== 'key-encryption-key' || path !== undefined,
  }
}
