/** Grants that a store has lost and that the node that wrote them still has in memory (fault 108). */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Grant } from '../../src/store/records/grants.ts'
import { rememberGrants } from '../../src/store/recent-grants.ts'
import { startGround, type Ground } from '../support/keyring.ts'

const NOW = 1_000_000
const isVoid = (): boolean => false

let ground: Ground
beforeEach(async () => {
  ground = await startGround()
})
afterEach(async () => {
  await ground.close()
})

const aGrant = (user: string, token: number): Omit<Grant, 'version'> => ({
  id: `grant-${user}`,
  tenant: 'acme',
  user,
  server: 'notes',
  downstream: 'notes-api',
  provider: 'notes',
  clientGeneration: 'one',
  scopes: ['read'],
  status: 'active',
  problem: null,
  sealed: Uint8Array.of(token),
  createdAt: 1,
  updatedAt: 1,
})
const aNode = () => {
  const passed = { milliseconds: 0 }
  return { grants: rememberGrants(ground.store.grants, () => passed.milliseconds), passed }
}

describe('fault 108: grants that the store has lost', () => {
  it('are written again with the token that the provider knows, fenced', async () => {
    const { grants } = aNode()
    const { store } = ground
    const before = await grants.put(aGrant('alice', 1))
    await grants.update({ ...before, sealed: Uint8Array.of(2) })
    // The store goes back to before the refresh.
    await store.grants.put(before)
    await store.grants.update({ ...(await store.grants.get(before.id))!, version: 3 }).catch(() => undefined)
    await store.grants.remove({ id: before.id })
    await store.grants.put(before)
    expect(await grants.writeAgain(isVoid, NOW)).toEqual(['grant-alice'])
    expect(await store.grants.get(before.id)).toMatchObject({ sealed: Uint8Array.of(2), status: 'active' })
    expect(await grants.writeAgain(isVoid, NOW)).toEqual([])
  })

  it('are written again where they are missing, but not what was revoked or stands in their place', async () => {
    const { grants } = aNode()
    const { store } = ground
    for (const user of ['alice', 'bob', 'carol', 'dave']) await grants.put(aGrant(user, 1))
    await store.grants.remove({})
    await store.grants.put({ ...aGrant('carol', 7), id: 'another' })
    await grants.remove({ user: 'dave' })
    expect(await grants.writeAgain(({ user }) => user === 'bob', NOW)).toEqual(['grant-alice'])
    expect((await store.grants.list({})).map(({ id }) => id).sort()).toEqual(['another', 'grant-alice'])
  })

  it('that another node tried with the older token are tried once more; those that it refreshed stay as it wrote them', async () => {
    const { grants } = aNode()
    const { store } = ground
    for (const [user, status, until] of [
      ['alice', 'reconnect_required', undefined],
      ['bob', 'active', undefined],
      ['carol', 'uncertain', NOW + 1],
    ] as const) {
      const before = await grants.put(aGrant(user, 1))
      await grants.update({ ...before, sealed: Uint8Array.of(2) })
      await store.grants.remove({ id: before.id })
      const again = await store.grants.put(before)
      const refreshing = until === undefined ? undefined : { owner: 'other', until }
      const one = await store.grants.update({ ...again, status, sealed: Uint8Array.of(3), refreshing })
      await store.grants.update(one)
    }
    expect(await grants.writeAgain(isVoid, NOW)).toEqual(['grant-alice'])
    expect(await store.grants.get('grant-alice')).toMatchObject({ status: 'uncertain', sealed: Uint8Array.of(2) })
    expect(await store.grants.get('grant-bob')).toMatchObject({ sealed: Uint8Array.of(3) })
    expect(await store.grants.get('grant-carol')).toMatchObject({ sealed: Uint8Array.of(3) })
  })

  it('are forgotten after two minutes', async () => {
    const { grants, passed } = aNode()
    await grants.put(aGrant('alice', 1))
    passed.milliseconds += 120_001
    await grants.put(aGrant('bob', 1))
    await ground.store.grants.remove({})
    expect(await grants.writeAgain(isVoid, NOW)).toEqual(['grant-bob'])
  })
})
