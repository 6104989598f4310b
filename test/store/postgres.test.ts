import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ClusterMembership } from '../../src/foundation/cluster/cluster-membership.ts'
import { createIncarnations } from '../../src/foundation/cluster/incarnation.ts'
import { createFingerprint } from '../../src/foundation/crypto/fingerprint.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { copyToPostgres } from '../../src/foundation/store/copy.ts'
import { SCHEMA_VERSION } from '../../src/foundation/store/migrations/index.ts'
import { judgeStandbys } from '../../src/foundation/store/postgres/durability.ts'
import { migratePostgres, openPostgresStore, postgresDurability } from '../../src/foundation/store/postgres/open.ts'
import type { PostgresOptions } from '../../src/foundation/store/postgres/pool.ts'
import type { Renewal, Position, RenewalRequest } from '../../src/foundation/store/records/revocations.ts'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import { anAuditRow } from '../conformance/audit-row.ts'
import { BEFORE_LEASE_QUESTIONS, expectOlderLeases } from '../conformance/older-leases.ts'
import { describeAuditStore } from '../conformance/audit-store.ts'
import { describeStore } from '../conformance/store.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'

const bin = findPostgres()
let server: PostgresServer
const optionsFor = async (given: Partial<PostgresOptions> = {}): Promise<PostgresOptions> => ({
  host: '127.0.0.1',
  port: server.port,
  database: given.database ?? (await server.createDatabase()),
  user: 'deputy',
  password: server.password,
  tls: false,
  pool: 5,
  deadline: 2000,
  ...given,
})
let migrated: Promise<string> | undefined
/** Of a database whose schema is this program's: a copy costs less than the migrations. */
const migratedOptions = async (given: Partial<PostgresOptions> = {}): Promise<PostgresOptions> => {
  migrated ??= optionsFor().then(async (options) => {
    await migratePostgres(options)
    return options.database
  })
  return optionsFor({ database: await server.createDatabase(await migrated), ...given })
}
const runOn = async (options: PostgresOptions, statements: readonly string[]): Promise<void> => {
  const { host, port, database, user, password } = options
  const client = new Client({ host, port, database, user, password: password! })
  await client.connect()
  for (const statement of statements) await client.query(statement)
  await client.end()
}
const codeOf = (work: Promise<unknown>): Promise<{ code: string; facts: { problem: string } }> =>
  work.then(
    () => ({ code: 'opened', facts: { problem: '' } }),
    (error: { code: string; facts: { problem: string } }) => error,
  )

describe.skipIf(bin === undefined)('with a real Postgres', () => {
  beforeAll(async () => {
    server = await startPostgres(bin!)
  })
  afterAll(async () => {
    await server?.close()
  })

  describeStore('postgres', async () => {
    const options = await migratedOptions()
    return { open: () => openPostgresStore({ ...options, node: 'one' }), dispose: () => Promise.resolve() }
  })

  describeAuditStore('postgres', async () => {
    const options = await migratedOptions()
    return {
      installation: 'an-installation',
      async open() {
        const store = await openPostgresStore({ ...options, node: 'one' })
        return { audit: store.audit, close: () => store.close() }
      },
      dispose: () => Promise.resolve(),
    }
  })

  describe('the Postgres store', () => {
    it('is not opened before it was migrated, and says what to type', async () => {
      const options = await optionsFor()
      expect((await codeOf(openPostgresStore({ ...options, node: 'one' }))).facts.problem).toContain(
        'deputy store migrate',
      )
      expect(await migratePostgres(options)).toMatchObject({ from: 0 })
      expect(await migratePostgres(options)).toMatchObject({ from: SCHEMA_VERSION, to: SCHEMA_VERSION })
      const store = await openPostgresStore({ ...options, node: 'one' })
      await store.close()
    })

    it('is migrated once by many that try at the same moment', async () => {
      const options = await optionsFor()
      const results = await Promise.all(Array.from({ length: 6 }, () => migratePostgres(options)))
      expect(results.filter(({ from }) => from === 0)).toHaveLength(1)
    })

    it('a migration that is cut off has not happened', async () => {
      const options = await optionsFor()
      const admin = new Client({
        host: '127.0.0.1',
        port: server.port,
        user: 'deputy',
        password: server.password,
        database: options.database,
      })
      await admin.connect()
      // A table of that name stands in the way of the second step.
      await admin.query('create table frozen_tenants (x int)')
      expect((await codeOf(migratePostgres(options))).code).toBe('store_unavailable')
      expect(
        (await admin.query("select count(*)::int as n from information_schema.tables where table_name = 'grants'"))
          .rows,
      ).toEqual([{ n: 0 }])
      await admin.query('drop table frozen_tenants')
      await admin.end()
      expect(await migratePostgres(options)).toMatchObject({ from: 0, to: SCHEMA_VERSION })
    })

    it('is migrated with leases of before an owner could have several, and goes on with them', async () => {
      const options = await migratedOptions()
      await expectOlderLeases(
        () => openPostgresStore({ ...options, node: 'one' }),
        async () => {
          const admin = new Client({
            host: '127.0.0.1',
            port: server.port,
            user: 'deputy',
            password: server.password,
            database: options.database,
          })
          await admin.connect()
          await admin.query(BEFORE_LEASE_QUESTIONS)
          await admin.end()
          expect(await migratePostgres(options)).toMatchObject({ from: 6, to: SCHEMA_VERSION })
        },
      )
    })

    it('keeps the chains of nodes apart, and finds a record in any of them', async () => {
      const options = await migratedOptions()
      const [one, two] = [
        await openPostgresStore({ ...options, node: 'one' }),
        await openPostgresStore({ ...options, node: 'two' }),
      ]
      await one.audit.append([anAuditRow(1), anAuditRow(2)])
      await two.audit.append([anAuditRow(1)])
      expect([(await one.audit.head())?.seq, (await two.audit.head())?.seq]).toEqual([2, 1])
      await expect(two.audit.append([anAuditRow(1)])).rejects.toMatchObject({ code: 'conflict' })
      expect(await two.audit.query({}, { limit: 9 })).toHaveLength(1)
      expect((await two.audit.query({ node: '*', id: 'request-1' }, { limit: 9 })).map(({ node }) => node)).toEqual([
        'one',
        'two',
      ])
      expect(await two.audit.chains()).toEqual(['one', 'two'])
      await one.close()
      await two.close()
    })

    const aRequest = (given: Partial<RenewalRequest> = {}): RenewalRequest => ({
      id: 'two/a',
      about: 'two',
      lease: 60_000,
      skew: 0,
      startedAt: undefined,
      applied: undefined,
      written: [],
      token: 'row',
      previous: [],
      keepsName: false,
      proof: proofOf(given.id ?? 'two/a', given.applied),
      ...given,
    })
    const proofOf = (id: string, applied: Position | undefined): string | null =>
      applied === undefined ? null : `${id} has applied ${applied.number} ${applied.token}`
    const granted = (renewal: Renewal): Extract<Renewal, { outcome: 'granted' }> => {
      if (renewal.outcome !== 'granted') throw new Error(`the renewal is ${renewal.outcome}`)
      return renewal
    }
    const revocation = (id: string, user = 'ada') => ({
      id,
      scope: { kind: 'user' as const, tenant: 'acme', user },
      epoch: 1,
      by: 'uid 0',
      reason: null,
      forgetAt: null,
    })
    const isProven = (id: string, applied: Position, proof: string | null): boolean => proof === proofOf(id, applied)
    const who = { except: 'one/a', lease: 0, skew: 0, isProven }

    it('gives a lease and the last change, in one step; a change waits for who has not said that it knows', async () => {
      const options = await migratedOptions()
      const [one, two] = [
        await openPostgresStore({ ...options, node: 'one' }),
        await openPostgresStore({ ...options, node: 'two' }),
      ]
      const cluster = two.cluster!
      const first = granted(await cluster.renew(aRequest()))
      const told = new Promise<void>((resolve) => {
        void cluster.subscribe(resolve).then(async (subscription) => {
          await told
          await subscription.close()
        })
      })
      const change = await one.revocations.add(revocation('r1'))
      await told
      const waiting = (): Promise<object> => one.cluster!.whoKnows(change, who)
      expect(await waiting()).toMatchObject({ acknowledged: [], waiting: ['two'], expired: [] })
      const second = granted(await cluster.renew(aRequest({ applied: first.last, previous: ['row'] })))
      expect(second.last).toEqual(change)
      expect(await cluster.changesSince(first.last, second.last)).toMatchObject({ revocations: [{ id: 'r1' }] })
      // Being told is not yet having said so.
      expect(await waiting()).toMatchObject({ acknowledged: [], waiting: ['two'], expired: [] })
      await cluster.renew(aRequest({ applied: second.last }))
      expect(await waiting()).toEqual({ acknowledged: ['two'], waiting: [], expired: [], isLost: false, unsettled: 0 })
      await cluster.renew(aRequest({ applied: second.last, lease: 1 }))
      const later = await one.disabledUsers.add({ tenant: 'acme', user: 'bob', at: 1, by: 'uid 0' })
      await expect
        .poll(() => one.cluster!.whoKnows(later, who))
        .toMatchObject({ acknowledged: [], waiting: [], expired: ['two'] })
      await one.close()
      await two.close()
    })

    it('promise 4: an acknowledgement that another program writes into the row of a node counts for nothing', async () => {
      const options = await migratedOptions()
      const store = await openPostgresStore({ ...options, node: 'one' })
      const cluster = store.cluster!
      const first = await store.revocations.add(revocation('r1'))
      await cluster.renew(aRequest({ applied: first }))
      const change = await store.revocations.add(revocation('r2'))
      for (const forged of [
        'update nodes set seen = 1000000, seen_token = (select token from epochs)',
        `update nodes set seen = ${change.number}, seen_token = '${change.token}'`,
        `update nodes set seen_proof = null`,
        // That of another node, and one of before.
        `update nodes set seen_proof = '${proofOf('three/a', change)}'`,
        `update nodes set seen_proof = '${proofOf('two/a', first)}'`,
      ]) {
        await runOn(options, [forged])
        expect([forged, await cluster.whoKnows(change, who)]).toMatchObject([
          forged,
          { acknowledged: [], waiting: ['two'] },
        ])
      }
      await cluster.renew(aRequest({ applied: change }))
      expect(await cluster.whoKnows(change, who)).toMatchObject({ acknowledged: ['two'], waiting: [] })
      await store.close()
    })

    it('promise 4: a count of changes that another program sets back hides no revocation from a node', async () => {
      const options = await migratedOptions()
      const applied: string[] = []
      const fingerprint = createFingerprint(new Secret(Buffer.alloc(32, 1).toString('base64')))
      const startNode = async (node: string) => {
        const store = await openPostgresStore({ ...options, node })
        const incarnations = createIncarnations(node, fingerprint)
        const incarnation = incarnations.idOf(Date.now(), 'drawn')
        let tokens = 0
        const membership = await ClusterMembership.start({
          store: store.cluster!,
          node,
          incarnation,
          startOf: incarnations.startOf,
          acknowledgements: incarnations,
          lease: 60_000,
          skew: 500,
          apply: ({ revocations }) => void applied.push(...revocations.map(({ id }) => `${node} ${id}`)),
          lookAgain: () => Promise.resolve(),
          replaced: () => undefined,
          newToken: () => `${incarnation} ${(tokens += 1)}`,
          clock: { now: () => Date.now() },
          monotonic: () => performance.now(),
          logger: { info() {}, warn() {}, error() {} } as never,
        })
        return { store, membership }
      }
      const [one, two] = [await startNode('one'), await startNode('two')]
      const revoke = async (id: string): Promise<Position> => {
        const write = () => one.store.revocations.add(revocation(id, id))
        const change = await one.membership.record(write)
        expect(await one.membership.confirm(change, write)).toMatchObject({ acknowledged: 1, expired: [] })
        return change
      }
      for (const id of ['r1', 'r2', 'r3']) await revoke(id)
      const acknowledged = async (): Promise<number[]> =>
        (await one.store.cluster!.nodes()).map((node) => node.acknowledged)
      await expect.poll(acknowledged).toEqual([3, 3])
      // The next number is 2, and the node two has proved that it has applied number 3.
      await runOn(options, [
        "update epochs set value = 1 where name = 'standing'",
        'delete from standing_history where number = 2',
      ])
      const { number } = await revoke('r4')
      expect(applied).toContain('two r4')
      expect(number).toBeGreaterThan(3)
      for (const { store, membership } of [one, two]) {
        await membership.close()
        await store.close()
      }
    })

    it('fault 101, promise 4: knows by number and token whether a past is its own', async () => {
      const options = await migratedOptions()
      const store = await openPostgresStore({ ...options, node: 'one' })
      const cluster = store.cluster!
      const change = await store.revocations.add(revocation('r1'))
      const lost = await store.revocations.add(revocation('r2'))
      await cluster.renew(aRequest({ applied: lost }))
      await runOn(options, [
        // The last change is lost, and another one gets its number.
        'delete from standing_history where number = (select max(number) from standing_history)',
        "delete from revocations where id = 'r2'",
        "update epochs set value = value - 1 where name = 'standing'",
      ])
      const other = await store.revocations.add(revocation('r3'))
      expect(other.number).toBe(lost.number)
      // The node is at this number, in another history: it knows nothing of r3, and is waited for.
      expect(await cluster.whoKnows(other, who)).toMatchObject({ acknowledged: [], waiting: ['two'] })
      expect(await cluster.whoKnows(lost, { ...who, except: 'two/a' })).toMatchObject({ isLost: true })
      for (const foreign of [{ applied: lost }, { applied: change, written: [lost] }, { previous: ['never'] }])
        expect(await cluster.renew(aRequest(foreign))).toMatchObject({ outcome: 'foreign_past', last: other })
      // No lease was given, and the old one still runs.
      expect(await cluster.whoKnows(other, who)).toMatchObject({ waiting: ['two'] })
      expect(await cluster.changesSince(undefined, lost)).toBeUndefined()
      await cluster.liftNumber(lost.number + 10)
      const anew = granted(await cluster.renew(aRequest({ previous: ['other', 'row'], token: 'row 2' })))
      expect(anew.last.number).toBe(lost.number + 11)
      await store.close()
    })

    it('fault 101, promise 4: a clock of the server that was ahead holds up no revocation and no start until it comes round again', async () => {
      const options = await migratedOptions()
      const store = await openPostgresStore({ ...options, node: 'one' })
      const cluster = store.cluster!
      await cluster.renew(aRequest())
      await runOn(options, [
        'update nodes set lease_until = lease_until + 86400000',
        'update store_servers set first_seen = (extract(epoch from now()) * 1000)::bigint + 86400000',
      ])
      expect(granted(await cluster.renew(aRequest({ id: 'three/a', about: 'three' }))).serverAge).toBe(0)
      await runOn(options, ["delete from nodes where id = 'three/a'"])
      const change = await store.revocations.add(revocation('r1'))
      const given = { except: 'two/a', lease: 60_000, skew: 500, isProven }
      await cluster.whoKnows(change, given)
      expect((await cluster.whoKnows(change, given)).unsettled).toBeLessThanOrEqual(60_500)
      expect(await cluster.whoKnows(change, who)).toMatchObject({ waiting: ['two'] })
      expect((await cluster.nodes()).map(({ leaseLeft }) => leaseLeft <= 300_000)).toEqual([true])
      await store.close()
    })

    it('fault 103: of two processes with one name the younger has a lease', async () => {
      const options = await migratedOptions()
      const store = await openPostgresStore({ ...options, node: 'one' })
      const cluster = store.cluster!
      const older = granted(await cluster.renew(aRequest({ lease: 1 })))
      const younger = granted(await cluster.renew(aRequest({ id: 'two/b' })))
      expect(
        await cluster.renew(aRequest({ startedAt: older.startedAt, applied: older.last, previous: ['row'] })),
      ).toMatchObject({ outcome: 'name_shared', by: ['two/b'] })
      granted(
        await cluster.renew(aRequest({ id: 'two/b', startedAt: younger.startedAt, previous: ['row'], lease: -1 })),
      )
      granted(await cluster.renew(aRequest({ startedAt: older.startedAt, previous: ['row'] })))
      // Which of two has the name is judged by those who have the key.
      await cluster.renew(aRequest({ id: 'two/b', previous: ['row'], keepsName: true }))
      granted(await cluster.renew(aRequest({ startedAt: older.startedAt, previous: ['row'], keepsName: true })))
      await store.close()
    })

    it('fault 104: losses are acknowledged one by one, and a row that was altered hides none', async () => {
      const options = await migratedOptions()
      const store = await openPostgresStore({ ...options, node: 'one' })
      for (const id of ['shown', 'forged', 'later'])
        await store.losses.add({ id, node: 'one', at: 1, detail: { problem: id } })
      for (const id of ['odd', 'timeless'])
        await store.losses.add({ id, node: 'one', at: 0, detail: { problem: 'forged' } })
      await runOn(options, [
        "update store_losses set detail = 'no JSON' where id = 'forged'",
        `update store_losses set detail = '{"problem":{"toString":1}}' where id = 'odd'`,
        "update store_losses set at = 9000000000000000000 where id = 'timeless'",
        `insert into store_losses (id, node, at, detail) select 'flood' || n, 'one', 2, '[]' from generate_series(1, 1000) n`,
      ])
      expect((await store.losses.open())[0]).toMatchObject({
        id: 'odd',
        detail: { problem: expect.stringContaining('was altered') as string },
      })
      expect(await store.losses.acknowledge(['odd'], 'admin', 3)).toBe(1)
      const open = await store.losses.open()
      expect(open).toHaveLength(1000)
      expect(open.slice(0, 3).map(({ id, detail }) => [id, detail['problem']])).toEqual([
        ['forged', expect.stringContaining('was altered')],
        ['later', 'later'],
        ['shown', 'shown'],
      ])
      expect(await store.losses.acknowledge(['shown', 'forged', 'unknown'], 'admin', 3)).toBe(2)
      expect((await store.losses.open())[0]).toMatchObject({ id: 'later' })
      // A time that is none is no time that could be shown.
      await runOn(options, ["delete from store_losses where id like 'flood%'"])
      expect((await store.losses.open()).find(({ id }) => id === 'timeless')).toMatchObject({
        at: 0,
        detail: { problem: expect.stringContaining('was altered') as string },
      })
      await store.close()
    })

    it('fault 105: a renewal over a slow line holds up no revocation', async () => {
      const options = await migratedOptions()
      const line = await startTcpProxy(options.port)
      const [far, near] = [
        await openPostgresStore({ ...options, port: line.port, node: 'far' }),
        await openPostgresStore({ ...options, node: 'near' }),
      ]
      await far.cluster!.renew(aRequest())
      line.delay(150)
      const renewing = far.cluster!.renew(aRequest({ previous: ['row'] }))
      let longest = 0
      for (let n = 0; n < 20; n += 1) {
        const began = performance.now()
        await near.revocations.add(revocation(`r${n}`))
        longest = Math.max(longest, performance.now() - began)
        await sleep(15)
      }
      granted(await renewing)
      expect(longest).toBeLessThan(140)
      await far.close()
      await near.close()
      await line.close()
    })

    it('fault 106: a listening connection that does not answer is given up and made anew', async () => {
      const options = await migratedOptions({ deadline: 300 })
      const line = await startTcpProxy(options.port)
      const [far, near] = [
        await openPostgresStore({ ...options, port: line.port, node: 'far' }),
        await openPostgresStore({ ...options, node: 'near' }),
      ]
      let told = 0
      const subscription = await far.cluster!.subscribe(() => {
        told += 1
      })
      expect(told).toBe(1)
      // As after an address has moved: nothing comes back, and no connection ends.
      line.stall()
      subscription.check()
      await sleep(1000)
      line.heal()
      await expect.poll(() => told).toBeGreaterThan(1)
      const before = told
      await near.revocations.add(revocation('r1'))
      await expect.poll(() => told).toBeGreaterThan(before)
      await subscription.close()
      await far.close()
      await near.close()
      await line.close()
    })

    it('fault 109: says whether it is synchronous, and what follows from that', async () => {
      const options = await optionsFor()
      expect(await postgresDurability(options)).toMatchObject({ state: 'alone' })
      const states = [
        ['', 0, null, 'alone'],
        ['', 2, 0, 'asynchronous'],
        ['', 1, null, 'asynchronous'],
        ['ANY 1 (a, b)', 2, 2, 'synchronous'],
        ['ANY 1 (a, b)', 2, null, 'synchronous'],
        ['a', 1, 1, 'fragile'],
        ['a', 0, null, 'hanging'],
        ['a', 1, 0, 'hanging'],
      ] as const
      for (const [names, connected, synchronous, state] of states)
        expect([names, connected, synchronous, judgeStandbys({ names, connected, synchronous }).state]).toEqual([
          names,
          connected,
          synchronous,
          state,
        ])
    })

    it('fault 104: appends to no chain that ends otherwise than the node knows', async () => {
      const options = await migratedOptions()
      const store = await openPostgresStore({ ...options, node: 'one' })
      const rows = [1, 2, 3, 4].map((seq) => ({ ...anAuditRow(seq), hash: `hash ${seq}` }))
      await store.audit.append(rows.slice(0, 3), { seq: 0, hash: 'genesis' })
      await runOn(options, ['delete from audit_records where seq = 3'])
      await expect(store.audit.append(rows.slice(3), rows[2])).rejects.toMatchObject({ code: 'conflict' })
      await expect(store.audit.append(rows.slice(2, 3), { seq: 2, hash: 'other' })).rejects.toMatchObject({
        code: 'conflict',
      })
      await expect(store.audit.append(rows.slice(1, 2), rows[0])).rejects.toMatchObject({ code: 'conflict' })
      await store.audit.append(rows.slice(2), rows[1])
      expect(await store.audit.query({}, { limit: 9 })).toMatchObject(
        rows.map(({ seq, body, hash }) => ({ seq, body, hash })),
      )
      await store.close()
    })

    it('takes over an embedded store whole, or not at all', async () => {
      const folder = await mkdtemp(join(tmpdir(), 'deputy-copy-'))
      const path = join(folder, 'deputy.db')
      const embedded = await openSqliteStore({ path })
      await embedded.audit.append(Array.from({ length: 2500 }, (_, index) => anAuditRow(index + 1)))
      await embedded.secrets.putCurrent({
        tenant: 'acme',
        name: 'key',
        version: 1,
        sealed: new Uint8Array([0, 1, 2, 255]),
        createdAt: 1,
        token: null,
      })
      const before = await embedded.disabledUsers.add({ tenant: 'acme', user: 'ada', at: 1, by: 'uid 0' })
      const options = await optionsFor()
      expect((await codeOf(copyToPostgres(path, options))).code).toBe('start_failed')
      await embedded.close()
      expect(await copyToPostgres(path, options)).toMatchObject({
        audit_records: 2500,
        secrets: 1,
        disabled_users: 1,
        grants: 0,
      })
      expect((await codeOf(copyToPostgres(path, options))).facts.problem).toContain('has rows')
      const store = await openPostgresStore({ ...options, node: 'local' })
      expect(await store.audit.head()).toMatchObject({ seq: 2500 })
      expect((await store.secrets.find('acme', 'key', 'current'))?.sealed).toEqual(new Uint8Array([0, 1, 2, 255]))
      expect(await store.disabledUsers.add({ tenant: 'acme', user: 'bob', at: 1, by: 'uid 0' })).toMatchObject({
        number: before.number + 1,
      })
      await store.close()
      await rm(folder, { recursive: true })
    })

    it('says what is wrong with the server, without the password', async () => {
      const wrong = await codeOf(
        openPostgresStore({ ...(await optionsFor({ password: 'canary-password' })), node: 'one' }),
      )
      expect(wrong).toMatchObject({ code: 'store_unavailable', facts: { problem: expect.stringContaining('28P01') } })
      expect(JSON.stringify(wrong)).not.toContain('canary-password')
      expect(
        (await codeOf(openPostgresStore({ ...(await optionsFor({ database: 'nowhere' })), node: 'one' }))).facts
          .problem,
      ).toContain('3D000')
      expect(
        (await codeOf(openPostgresStore({ ...(await optionsFor({ port: 1 })), node: 'one' }))).facts.problem,
      ).toContain('ECONNREFUSED')
    })

    it('promise 3: loses nothing that it has acknowledged when the server is killed, and goes on when it is back', async () => {
      const options = await migratedOptions()
      const store = await openPostgresStore({ ...options, node: 'one' })
      let acknowledged = 0
      const writing = (async () => {
        try {
          for (let seq = 1; ; seq += 1) {
            await store.audit.append([anAuditRow(seq)])
            acknowledged = seq
          }
        } catch (error) {
          return error
        }
      })()
      await expect.poll(() => acknowledged).toBeGreaterThan(50)
      await server.kill()
      expect(await writing).toMatchObject({ code: 'store_unavailable' })
      await expect(store.ping()).rejects.toMatchObject({ code: 'store_unavailable' })
      await server.start()
      expect((await store.audit.head())!.seq).toBeGreaterThanOrEqual(acknowledged)
      await store.close()
    })
  })
})
