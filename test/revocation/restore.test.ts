import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createFingerprint } from '../../src/foundation/crypto/fingerprint.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { liftProofOf } from '../../src/flows/revocation/lifted.ts'
import { restoreOrders } from '../../src/flows/revocation/restore.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'

const HOUR = 3_600_000
const NOW = 1_000 * HOUR

let keysAndStore: KeysAndStore
let seq: number
beforeEach(async () => {
  keysAndStore = await startGround()
  seq = 0
})
afterEach(async () => {
  await keysAndStore.close()
})

const fingerprint = createFingerprint(new Secret(Buffer.alloc(32, 1).toString('base64')))

const record = (event: string, at: number, detail: object | string): Promise<void> =>
  keysAndStore.store.audit.append([
    {
      seq: (seq += 1),
      id: `id-${seq}`,
      at,
      event,
      outcome: 'done',
      tenant: 'acme',
      user: event.startsWith('user') ? 'alice' : null,
      server: null,
      downstream: null,
      body: typeof detail === 'string' ? detail : JSON.stringify({ detail }),
      hash: '',
    },
  ])
const restored: string[] = []
const restore = async (): Promise<string[]> => {
  restored.length = 0
  await restoreOrders({
    store: keysAndStore.store,
    audit: {
      append: ({ detail }) => {
        restored.push((detail as { what: string }).what)
        return Promise.resolve()
      },
    },
    fingerprint,
    now: NOW,
    correlationId: 'start',
    logger: silentLogger,
  })
  return restored
}
const revocation = (covers: unknown): object => ({
  revocation: `r${seq}`,
  by: 'admin',
  reason: null,
  epoch: NOW,
  forget_at: null,
  covers,
})

describe('fault 12: orders that are put back at a start', () => {
  it('are the last of their chain, whatever the clock said: a user who was enabled stays so', async () => {
    // The clock was two hours ahead, and was put right before the second order.
    await record('user.disable', NOW + 2 * HOUR, { by: 'admin' })
    await record('tenant.freeze', NOW + 2 * HOUR, { by: 'admin', reason: null })
    await record('user.enable', NOW, { by: 'admin' })
    await record('tenant.thaw', NOW, { by: 'admin' })
    expect(await restore()).toEqual([])
    await record('user.disable', NOW - HOUR, { by: 'admin' })
    expect(await restore()).toEqual(['user alice of acme is disabled'])
    expect(await keysAndStore.store.disabledUsers.list()).toMatchObject([
      { tenant: 'acme', user: 'alice', by: 'admin' },
    ])
  })

  it('are read beside records that were altered: what is no order is left, and the daemon starts', async () => {
    await record('revocation', NOW, 'no json')
    await record('revocation', NOW, revocation({ kind: 'user' }))
    await record('revocation', NOW, revocation({ kind: 'what' }))
    await record('user.disable', NOW, 'no json')
    await record('revocation', NOW, revocation({ kind: 'user', tenant: 'acme', user: 'bob' }))
    expect(await restore()).toEqual(['revocation r4', 'user alice of acme is disabled'])
    expect(await keysAndStore.store.revocations.list()).toMatchObject([{ scope: { kind: 'user', user: 'bob' } }])
    expect(await restore()).toEqual([])
  })

  it('are lifted by the daemon alone: a record of it that has no proof, or that of another order, lifts nothing', async () => {
    const lift = (user: string | undefined, at: number): object => ({
      lifts: at,
      proof: liftProofOf(fingerprint, { tenant: 'acme', at, ...(user === undefined ? {} : { user }) }),
    })
    await record('user.disable', NOW, { by: 'admin', since: 1 })
    await record('user.enable', NOW, { by: 'admin', ...lift('alice', 1) })
    await record('tenant.freeze', NOW, { by: 'admin', since: 1 })
    await record('tenant.thaw', NOW, { by: 'admin', ...lift(undefined, 1) })
    expect(await restore()).toEqual([])
    await record('user.disable', NOW, { by: 'admin', since: 2 })
    await record('tenant.freeze', NOW, { by: 'admin', since: 2 })
    // As who can write the store adds them: the chain of the log needs no key.
    for (const forged of [{}, lift('alice', 1), { ...lift('bob', 2), lifts: 2 }, { proof: 'x' }]) {
      await record('user.enable', NOW, { by: 'admin', ...forged })
      await record('tenant.thaw', NOW, { by: 'admin', ...forged })
    }
    expect(await restore()).toEqual(['user alice of acme is disabled', 'tenant acme is frozen'])
    // It is the order that it was, so it can be lifted.
    expect(await keysAndStore.store.disabledUsers.list()).toMatchObject([{ user: 'alice', at: 2 }])
    await keysAndStore.store.disabledUsers.remove('acme', 'alice')
    await record('user.enable', NOW, { by: 'admin', ...lift('alice', 2) })
    expect(await restore()).toEqual([])
  })
})
