import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import type { LeaseSource } from '../../src/credentials/secret/backend.ts'
import { bindLeases } from '../../src/credentials/secret/bind-leases.ts'
import { Leases } from '../../src/credentials/secret/leases.ts'
import type { Lease } from '../../src/foundation/store/records/leases.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'
import { aClock } from '../support/snapshot.ts'

const ALICE = { tenant: 'acme', user: 'alice', server: 'notes', downstream: 'orders' }

describe('fault 12, promise 8: the login of a lease', () => {
  let keysAndStore: KeysAndStore
  let leases: Leases
  let clock: ReturnType<typeof aClock>
  beforeEach(async () => {
    keysAndStore = await startGround()
    clock = aClock()
    leases = new Leases({
      store: keysAndStore.store.leases,
      envelope: keysAndStore.envelope,
      backendOf: () => ({}) as LeaseSource,
      isVoid: () => false,
      isWanted: () => true,
      clock,
      random: createSystemRandom(),
      logger: silentLogger,
      audit: { append: () => Promise.resolve() },
    })
  })
  afterEach(async () => {
    await keysAndStore.close()
  })

  const made = { lease: 'database/creds/1', duration: 3_600_000, renewable: false }
  const obtain = async (user: string, role: string): Promise<string> =>
    leases
      .obtain({ ...ALICE, user }, { backend: 'vault', role }, () =>
        Promise.resolve({ ...made, value: new Secret(`${role} of ${user}`) }),
      )
      .then(
        ({ value }) => value.reveal(),
        (error: { code: string }) => error.code,
      )
  /** As who can write the store does it: the row is there as before, with another owner. */
  const rewrite = async (change: Partial<Lease>): Promise<void> => {
    const [lease] = await keysAndStore.store.leases.list({})
    await keysAndStore.store.leases.remove(lease!.id)
    expect(await keysAndStore.store.leases.begin({ ...lease!, ...change })).toBe(true)
  }

  it('is of no other owner, and for nothing else, whatever the row in the store says', async () => {
    expect(await obtain('alice', 'admin')).toBe('admin of alice')
    await rewrite({ user: 'mallory' })
    expect(await obtain('mallory', 'admin')).toBe('secret_unreadable')
    await rewrite({ user: 'alice', role: 'reader' })
    expect(await obtain('alice', 'reader')).toBe('secret_unreadable')
    await rewrite({ user: 'alice', role: 'admin' })
    expect(await obtain('alice', 'admin')).toBe('admin of alice')
  })

  it('of an earlier version is bound once; one of the earlier form is not believed afterwards', async () => {
    const bind = (): Promise<void> =>
      bindLeases({
        folder: join(keysAndStore.folder, 'keys'),
        leases: keysAndStore.store.leases,
        envelope: keysAndStore.envelope,
        logger: silentLogger,
      })
    const earlier = async (): Promise<void> => {
      const [{ id }] = (await keysAndStore.store.leases.list({})) as [Lease]
      const sealed = await keysAndStore.envelope.seal(
        { tenant: 'acme', kind: 'lease', id },
        new Secret('admin of alice'),
      )
      await rewrite({ sealed })
    }
    await obtain('alice', 'admin')
    await earlier()
    await bind()
    expect(await obtain('alice', 'admin')).toBe('admin of alice')
    await earlier()
    await bind()
    expect(await obtain('alice', 'admin')).toBe('secret_unreadable')
  })
})
