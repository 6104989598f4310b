/** Grants that a store has lost and that the node that wrote them still has in memory (fault 108). */
import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { ClusterMembership } from '../../src/foundation/cluster/cluster-membership.ts'
import { createLookAgain } from '../../src/flows/revocation/look-again.ts'
import { RevocationIndex } from '../../src/identity/validity/revocation-index.ts'
import { migratePostgres, openPostgresStore } from '../../src/foundation/store/postgres/open.ts'
import type { Grant } from '../../src/foundation/store/records/grants.ts'
import { rememberGrants } from '../../src/foundation/store/recent-grants.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'

const NOW = 1_000_000
/** The store has surely lost commits, and is there since just now. */
const LOST = { now: NOW, hasLost: true, since: NOW }
const UNPROVEN = { ...LOST, hasLost: false }
const noneVoid = () => Promise.resolve(() => false)

let keysAndStore: KeysAndStore
beforeEach(async () => {
  keysAndStore = await startGround()
})
afterEach(async () => {
  await keysAndStore.close()
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
  return { grants: rememberGrants(keysAndStore.store.grants, () => passed.milliseconds), passed }
}

describe('fault 108: grants that the store has lost', () => {
  it('are written again with the token that the provider knows, fenced', async () => {
    const { grants } = aNode()
    const { store } = keysAndStore
    const before = await grants.put(aGrant('alice', 1))
    await grants.update({ ...before, sealed: Uint8Array.of(2) })
    // The store goes back to before the refresh.
    await store.grants.put(before)
    await store.grants.update({ ...(await store.grants.get(before.id))!, version: 3 }).catch(() => undefined)
    await store.grants.remove({ id: before.id })
    await store.grants.put(before)
    expect(await grants.writeAgain(noneVoid, LOST)).toEqual(['grant-alice'])
    expect(await store.grants.get(before.id)).toMatchObject({ sealed: Uint8Array.of(2), status: 'active' })
    expect(await grants.writeAgain(noneVoid, LOST)).toEqual([])
  })

  it('are written again where they are missing, but not what was revoked or stands in their place', async () => {
    const { grants } = aNode()
    const { store } = keysAndStore
    for (const user of ['alice', 'bob', 'carol', 'dave']) await grants.put(aGrant(user, 1))
    await store.grants.remove({})
    await store.grants.put({ ...aGrant('carol', 7), id: 'another' })
    await grants.remove({ user: 'dave' })
    expect(await grants.writeAgain(() => Promise.resolve(({ user }) => user === 'bob'), UNPROVEN)).toEqual([
      'grant-alice',
    ])
    expect((await store.grants.list({})).map(({ id }) => id).sort()).toEqual(['another', 'grant-alice'])
  })

  it('that another node tried with the older token are tried once more; those that it refreshed stay as it wrote them', async () => {
    const { grants } = aNode()
    const { store } = keysAndStore
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
      const updatedAt = NOW + 1
      const one = await store.grants.update({ ...again, status, sealed: Uint8Array.of(3), refreshing, updatedAt })
      await store.grants.update(one)
    }
    expect(await grants.writeAgain(noneVoid, LOST)).toEqual(['grant-alice'])
    expect(await store.grants.get('grant-alice')).toMatchObject({ status: 'uncertain', sealed: Uint8Array.of(2) })
    expect(await store.grants.get('grant-bob')).toMatchObject({ sealed: Uint8Array.of(3) })
    expect(await store.grants.get('grant-carol')).toMatchObject({ sealed: Uint8Array.of(3) })
  })

  it('promise 6: are not written over what is younger: without a proof of loss, or written before the store changed', async () => {
    const { grants } = aNode()
    const { store } = keysAndStore
    const young = async (user: string, updatedAt: number): Promise<void> => {
      const mine = await grants.put(aGrant(user, 1))
      const one = await store.grants.update({ ...mine, sealed: Uint8Array.of(2), updatedAt })
      await store.grants.update({ ...one, status: 'uncertain' })
    }
    await young('alice', NOW + 1)
    expect(await grants.writeAgain(noneVoid, UNPROVEN)).toEqual([])
    await young('bob', NOW - 1)
    // Lost with its younger writes, and written again by the node that has those: its version is lower for all that.
    const mine = await grants.update({ ...(await grants.put(aGrant('carol', 1))), sealed: Uint8Array.of(2) })
    await store.grants.remove({ id: mine.id })
    await store.grants.put({ ...mine, sealed: Uint8Array.of(3), updatedAt: NOW - 1 })
    expect(await grants.writeAgain(noneVoid, LOST)).toEqual(['grant-alice'])
    for (const [user, token] of [
      ['bob', 2],
      ['carol', 3],
    ] as const)
      expect(await store.grants.get(`grant-${user}`)).toMatchObject({ sealed: Uint8Array.of(token) })
  })

  it('are forgotten after two minutes', async () => {
    const { grants, passed } = aNode()
    await grants.put(aGrant('alice', 1))
    passed.milliseconds += 120_001
    await grants.put(aGrant('bob', 1))
    await keysAndStore.store.grants.remove({})
    expect(await grants.writeAgain(noneVoid, LOST)).toEqual(['grant-bob'])
  })
})

const bin = findPostgres()
describe.skipIf(bin === undefined)('fault 108, promise 6: with a real Postgres', () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres(bin!)
  })
  afterAll(async () => {
    await server?.close()
  })

  /** What a node has that compares itself with the store, and a connection of a person who can write there. */
  const startNode = async () => {
    const { port, password } = server
    const at = { host: '127.0.0.1', port, database: await server.createDatabase(), user: 'deputy', password }
    const options = { ...at, tls: false, pool: 5, deadline: 2000 }
    await migratePostgres(options)
    const store = await openPostgresStore({ ...options, node: 'one' })
    const grants = rememberGrants(store.grants, () => performance.now())
    const looks: string[] = []
    let drawn = 0
    const newId = (): string => `drawn ${(drawn += 1)}`
    const logger = { info: (_: object, text: string) => looks.push(text), warn() {}, error() {}, debug() {} } as never
    const audit = { compare: () => Promise.resolve(), append: () => Promise.resolve() } as never
    const { lookAgain } = createLookAgain({
      store,
      grants,
      audit,
      node: 'one',
      now: () => systemClock.now(),
      newId,
      logger,
      revocationIndex: new RevocationIndex([], []),
      fingerprint: () => '',
      emptyCaches: () => undefined,
      endAgain: () => undefined,
    })
    const lease = await ClusterMembership.start({
      store: store.cluster!,
      node: 'one',
      incarnation: 'one/1',
      lease: 1000,
      skew: 200,
      newToken: newId,
      clock: systemClock,
      startOf: () => 1,
      acknowledgements: { prove: () => '', isProven: () => true },
      apply: () => undefined,
      lookAgain,
      replaced: () => undefined,
      monotonic: () => performance.now(),
      logger,
    })
    return {
      store,
      grants,
      lease,
      looks,
      /** The node has compared once more, and serves again. */
      async looked(since: number): Promise<void> {
        await expect.poll(() => looks.slice(since).at(-1), { timeout: 10_000 }).toContain('has lost nothing')
        await expect.poll(() => lease.status().held, { timeout: 10_000 }).toBe(true)
      },
      async write(sql: string): Promise<void> {
        const client = new Client(at)
        await client.connect()
        await client.query(sql)
        await client.end()
      },
      async [Symbol.asyncDispose](): Promise<void> {
        await lease.close()
        await store.close()
      },
    }
  }
  const aRevocation = (id: string, grant: string) => ({
    id,
    scope: { kind: 'grant' as const, grant },
    epoch: systemClock.now(),
    by: 'admin',
    reason: null,
    forgetAt: null,
  })

  it('a restart that loses nothing is no loss: no older token is put over a younger one, and nothing that was revoked comes back', async () => {
    await using node = await startNode()
    const { store, grants, looks, looked } = node
    const old = await grants.put({ ...aGrant('alice', 1), updatedAt: systemClock.now() })
    // Another node has refreshed since then, and has sent the next refresh, whose answer was lost.
    const other = await store.grants.update({ ...old, sealed: Uint8Array.of(2), updatedAt: systemClock.now() })
    const revoked = await grants.put(aGrant('bob', 1))
    const restore = await server.snapshot()
    await looked(0)
    // Its time is as if it were written between the restart and the look.
    await store.grants.update({ ...other, status: 'uncertain', updatedAt: systemClock.now() + 60_000 })
    // Another node has revoked this, and this one has not applied that.
    await store.revocations.add(aRevocation('r1', revoked.id))
    await store.grants.remove({ id: revoked.id })
    const before = looks.length
    await server.kill()
    await server.start()
    await looked(before)
    expect(await store.losses.open()).toEqual([])
    expect(await store.grants.get(old.id)).toMatchObject({ sealed: Uint8Array.of(2), status: 'uncertain' })
    expect(await store.grants.get(revoked.id)).toBeUndefined()
    await restore()
    await expect.poll(() => store.losses.open().catch(() => []), { timeout: 10_000 }).toHaveLength(1)
    expect(await store.grants.get(old.id)).toMatchObject({ sealed: Uint8Array.of(2), status: 'active' })
  }, 60_000)

  it('fault 101: a last place of the history that was deleted in the store costs no node its lease for long', async () => {
    await using node = await startNode()
    await node.store.revocations.add(aRevocation('r1', 'g1'))
    await expect.poll(() => node.lease.status().held).toBe(true)
    await node.write('delete from standing_history where number = (select max(number) from standing_history)')
    await expect.poll(() => node.store.losses.open(), { timeout: 10_000 }).not.toEqual([])
    await expect.poll(() => node.lease.status(), { timeout: 10_000 }).toMatchObject({ held: true, problem: null })
    await node.lease.catchUp()
  }, 30_000)
})
