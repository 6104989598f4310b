import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { refuse } from '../../src/errors.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import type { LeasedSecrets } from '../../src/credentials/secret/backend.ts'
import { Leases, type LeasesOptions } from '../../src/credentials/secret/leases.ts'
import type { Lease, LeaseOwner } from '../../src/foundation/store/records/leases.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'
import { aClock } from '../support/snapshot.ts'

const HOUR = 3_600_000
const ALICE: LeaseOwner = { tenant: 'acme', user: 'alice', server: 'notes', downstream: 'orders' }
const SOURCE = { backend: 'vault', role: 'reader' }

describe('leases', () => {
  let keysAndStore: KeysAndStore
  let clock: ReturnType<typeof aClock>
  let alive: Map<string, number>
  let made: number
  let renewals: { lease: string; at: number }[]
  let failing: boolean
  let longest: number
  let records: string[]
  beforeEach(async () => {
    keysAndStore = await startGround()
    clock = aClock()
    alive = new Map()
    made = 0
    renewals = []
    failing = false
    longest = 10 * HOUR
    records = []
  })
  afterEach(async () => {
    await keysAndStore.close()
  })

  const outage = (): Error => refuse('secret_backend_unavailable', { backend: 'vault', problem: 'sealed' })
  const backend: LeasedSecrets = {
    make() {
      if (failing) return Promise.reject(outage())
      const lease = `database/creds/reader/${(made += 1)}`
      alive.set(lease, clock.now())
      return Promise.resolve({ value: new Secret(`login ${made}`), lease, duration: HOUR, renewable: true })
    },
    renew(lease, duration) {
      if (failing) return Promise.reject(outage())
      const began = alive.get(lease)
      if (began === undefined) return Promise.resolve(undefined)
      renewals.push({ lease, at: clock.now() })
      const given = Math.min(duration, began + longest - clock.now())
      return Promise.resolve({ duration: given, isLast: given < duration })
    },
    end(lease) {
      if (failing) return Promise.reject(outage())
      alive.delete(lease)
      return Promise.resolve()
    },
  }
  const aRoom = (given: Partial<LeasesOptions> = {}) =>
    new Leases({
      store: keysAndStore.store.leases,
      envelope: keysAndStore.envelope,
      backendOf: () => backend,
      isVoid: () => false,
      isWanted: () => true,
      clock,
      random: createSystemRandom(),
      logger: silentLogger,
      audit: {
        append: ({ event }) => {
          records.push(event)
          return Promise.resolve()
        },
      },
      ...given,
    })
  const text = async (room: ReturnType<typeof aRoom>, owner = ALICE): Promise<string> =>
    (await room.obtain(owner, SOURCE, () => backend.make('reader'))).value.reveal()
  const stored = (): Promise<Lease[]> => keysAndStore.store.leases.list({})

  it('promise 6: many at once, on many nodes, have one credential made for one owner', async () => {
    const rooms = [aRoom(), aRoom(), aRoom()]
    const given = await Promise.all(Array.from({ length: 30 }, (_, index) => text(rooms[index % 3]!)))
    expect(new Set(given)).toEqual(new Set(['login 1']))
    expect(made).toBe(1)
  })

  it('promise 8: each user, and the server itself, has a login of their own', async () => {
    const room = aRoom()
    const given = await Promise.all(
      [ALICE, { ...ALICE, user: 'bob' }, { ...ALICE, user: null }, { ...ALICE, tenant: 'globex' }].map((owner) =>
        text(room, owner),
      ),
    )
    expect(new Set(given).size).toBe(4)
  })

  it('promise 5: keeps it sealed', async () => {
    await text(aRoom())
    expect(JSON.stringify(await stored())).not.toContain('login 1')
    expect(Buffer.from((await stored())[0]!.sealed!).includes('login 1')).toBe(false)
  })

  it('is renewed while it is used, and ends when it is not', async () => {
    const room = aRoom()
    await text(room)
    for (let twelfth = 1; twelfth <= 48; twelfth += 1) {
      clock.forward(HOUR / 12)
      if (twelfth % 4 === 0) expect(await text(room)).toBe('login 1')
      await room.tick()
    }
    expect(renewals.length).toBeGreaterThan(3)
    clock.forward(HOUR * 0.8)
    await room.tick()
    clock.forward(HOUR)
    await room.tick()
    expect(await stored()).toEqual([])
    expect(await text(room)).toBe('login 2')
  })

  it('what is handed out ends before the lease, and is another one once the longest life is over', async () => {
    longest = 1.5 * HOUR
    const room = aRoom()
    let last = ''
    for (let look = 0; look < 40; look += 1) {
      const { value, expiresAt, lease } = await room.obtain(ALICE, SOURCE, () => backend.make('reader'))
      const external = (await stored()).find(({ id }) => id === lease)!
      expect(expiresAt).toBeLessThanOrEqual(external.expiresAt)
      expect(external.expiresAt).toBeLessThanOrEqual(alive.get(external.external!)! + longest + 1)
      last = value.reveal()
      clock.forward(HOUR / 10)
      await room.tick()
    }
    expect(last).not.toBe('login 1')
  })

  it('promise 4: what was ended is handed out no more, and is ended at its backend, now or when that is back', async () => {
    const room = aRoom()
    await text(room)
    await text(room, { ...ALICE, user: 'bob' })
    failing = true
    expect(await room.end([{ tenant: 'acme', user: 'alice' }])).toMatchObject([{ user: 'alice', upstream: 'queued' }])
    failing = false
    expect(await text(room)).toBe('login 3')
    expect(alive.size).toBe(3)
    for (let tries = 0; tries < 5 && alive.size === 3; tries += 1) {
      clock.forward(10_000)
      await room.tick()
    }
    expect([...alive.keys()]).toEqual(['database/creds/reader/2', 'database/creds/reader/3'])
    expect(await room.end([{ tenant: 'acme', user: 'alice' }, { server: 'notes' }])).toHaveLength(2)
    expect(alive.size).toBe(0)
    expect(records.filter((event) => event === 'lease.end')).toHaveLength(3)
  })

  it('promise 4: one that was being made while it was revoked is not handed out again', async () => {
    const covered = new Set<string>()
    const room = aRoom({ isVoid: ({ id }) => covered.has(id) })
    await text(room)
    covered.add((await stored())[0]!.id)
    expect(await text(room)).toBe('login 2')
    await room.tick()
    expect([...alive.keys()]).toEqual(['database/creds/reader/2'])
  })

  it("promise 4: what waits for its end with its credential is ended before the tenant's key is, or told as failed", async () => {
    const ended: string[] = []
    const room = aRoom({
      backendOf: () => ({
        ...backend,
        endsByCredential: true,
        async end(lease, { open }) {
          if (failing) throw outage()
          ended.push((await open()).reveal())
          alive.delete(lease)
        },
      }),
    })
    for (const user of ['alice', 'bob']) await text(room, { ...ALICE, user })
    failing = true
    for (const user of ['alice', 'bob'])
      expect(await room.end([{ tenant: 'acme', user }])).toMatchObject([{ upstream: 'queued' }])
    expect(await room.end([{ tenant: 'acme', user: 'alice' }], true)).toMatchObject([
      { user: 'alice', upstream: 'failed' },
    ])
    failing = false
    expect(await room.end([{ tenant: 'acme' }], true)).toMatchObject([{ user: 'bob', upstream: 'done' }])
    expect([ended, await stored()]).toEqual([['login 2'], []])
  })

  it('promise 3: what was made and could not be written down is ended, and nobody is given it later', async () => {
    let full = true
    const room = aRoom({
      audit: {
        append: () =>
          full
            ? Promise.reject(refuse('audit_unavailable', { sink: 'file', problem: 'the disk is full' }))
            : Promise.resolve(),
      },
    })
    await expect(text(room)).rejects.toMatchObject({ code: 'audit_unavailable' })
    expect(alive.size).toBe(0)
    full = false
    expect(await text(room)).toBe('login 2')
    await room.tick()
    expect([[...alive.keys()], (await stored()).map(({ state }) => state)]).toEqual([
      ['database/creds/reader/2'],
      ['active'],
    ])
  })

  it('ends what files do not speak of any more', async () => {
    await text(aRoom())
    const room = aRoom({ isWanted: () => false })
    expect(await room.sweep()).toBe(1)
    await room.tick()
    expect([alive.size, (await stored()).length]).toEqual([0, 0])
  })

  it('threat 21: whoever dies while it is made is waited for, and then another makes it', async () => {
    const now = clock.now()
    await keysAndStore.store.leases.begin({
      ...ALICE,
      ...SOURCE,
      id: 'dead',
      state: 'making',
      external: null,
      sealed: null,
      duration: 0,
      createdAt: now,
      renewedAt: now,
      usedAt: now,
      expiresAt: now + 10_000,
      nextAt: now + 20_000,
      attempts: 0,
      problem: null,
      revision: 0,
      parent: null,
    })
    const room = aRoom()
    const waiting = text(room)
    clock.forward(10_001)
    expect(await waiting).toBe('login 1')
    expect((await stored()).map(({ id }) => id)).toEqual(['dead'])
  })

  it('promise 9: a backend that is away leaves nothing behind', async () => {
    const room = aRoom()
    failing = true
    await expect(room.obtain(ALICE, SOURCE, () => backend.make('reader'))).rejects.toMatchObject({
      code: 'secret_backend_unavailable',
    })
    expect(await stored()).toEqual([])
    failing = false
    await text(room)
    failing = true
    // A renewal that fails is tried again while there is time.
    clock.forward(HOUR * 0.76)
    await text(room)
    await keysAndStore.store.leases.update({ ...(await stored())[0]!, renewedAt: clock.now() - 1 })
    await room.tick()
    expect((await stored())[0]).toMatchObject({
      state: 'active',
      attempts: 1,
      problem: expect.stringMatching(/sealed/),
    })
    failing = false
    clock.forward(5000)
    await room.tick()
    expect((await stored())[0]).toMatchObject({ attempts: 0, problem: null })
    expect(renewals).toHaveLength(1)
  })

  it('fault 42: what is handed out never outlives the token that it is under, and is made anew when that has ended', async () => {
    let parentEnd = clock.now() + HOUR / 4
    const made: LeasedSecrets = {
      ...backend,
      hasParents: true,
      make: async (role) => ({ ...(await backend.make(role)), parent: { name: 'token', endsAt: parentEnd } }),
      renew: async (lease, duration, parent) => {
        expect(parent).toBe('token')
        const given = await backend.renew(lease, duration, parent)
        return given === undefined
          ? undefined
          : { ...given, duration: Math.min(given.duration, parentEnd - clock.now()) }
      },
    }
    const lost: string[] = []
    const room = aRoom({ backendOf: () => made, lost: (ids) => lost.push(...ids) })
    const obtain = () => room.obtain(ALICE, SOURCE, () => made.make('reader'))
    const first = await obtain()
    expect(first.expiresAt).toBeLessThanOrEqual(parentEnd)
    expect((await stored())[0]).toMatchObject({ parent: 'token', expiresAt: parentEnd })
    // The token was renewed: so is what is under it.
    parentEnd += HOUR
    clock.forward(HOUR * 0.2)
    await room.tick()
    expect((await stored())[0]!.expiresAt).toBeGreaterThan(clock.now() + HOUR / 4)
    await room.lose('another')
    expect((await obtain()).value.reveal()).toBe('login 1')
    await room.lose('token')
    expect(lost).toEqual([first.lease])
    expect((await obtain()).value.reveal()).toBe('login 2')
    await room.tick()
    expect([...alive.keys()]).toEqual(['database/creds/reader/2'])
  })

  it('fault 44: a backend that is silent while a login nears its end costs nothing that lives on there', async () => {
    let parentEnd = clock.now() + 12_000
    let silent = false
    const made: LeasedSecrets = {
      ...backend,
      hasParents: true,
      make: async (role) => ({ ...(await backend.make(role)), parent: { name: 'token', endsAt: parentEnd } }),
      renew: async (lease, duration, parent) => {
        if (silent)
          throw refuse('secret_backend_unavailable', { backend: 'vault', problem: 'it is sealed', whole: 'yes' })
        const given = (await backend.renew(lease, duration, parent))!
        return { ...given, duration: Math.min(given.duration, parentEnd - clock.now()) }
      },
    }
    const room = aRoom({ backendOf: () => made })
    const obtain = async () => (await room.obtain(ALICE, SOURCE, () => made.make('reader'))).value.reveal()
    expect(await obtain()).toBe('login 1')
    silent = true
    clock.forward(11_000)
    await room.tick()
    // It is nearly over: it is not handed out, and not given up.
    await expect(obtain()).rejects.toMatchObject({ code: 'secret_backend_unavailable' })
    silent = false
    parentEnd += 12_000
    expect(await Promise.all([obtain(), obtain()])).toEqual(['login 1', 'login 1'])
    expect(renewals).toHaveLength(1)
    // What was written down is past, but the token was renewed meanwhile, and so is what is under it.
    parentEnd += HOUR
    clock.forward(14_000)
    await room.tick()
    expect(await obtain()).toBe('login 1')
    expect([...alive.keys()]).toEqual(['database/creds/reader/1'])
    // A token that is over is no parent to go on under.
    clock.forward(HOUR)
    await room.tick()
    expect(await obtain()).toBe('login 2')
  })

  it('fault 42: a lease of an earlier version, whose token is not known, is made anew', async () => {
    await text(aRoom())
    expect(await text(aRoom({ backendOf: () => ({ ...backend, hasParents: true }) }))).toBe('login 2')
  })

  it('fault 46: a login that its backend does not end is asked for again past its time, and given up with the reason', async () => {
    const told: unknown[] = []
    const room = aRoom({
      backendOf: () => ({
        ...backend,
        end: () => Promise.reject(refuse('secret_backend_refused', { backend: 'vault', problem: 'it owns a table' })),
      }),
      audit: {
        append: ({ event, outcome, detail }) => {
          if (event === 'lease.end') told.push([outcome, detail])
          return Promise.resolve()
        },
      },
    })
    await text(room)
    expect(await room.end([{ tenant: 'acme' }])).toMatchObject([{ upstream: 'queued' }])
    clock.forward(2 * HOUR)
    await room.tick()
    expect(told).toEqual([])
    expect(await stored()).toMatchObject([
      { state: 'ending', problem: expect.stringMatching(/owns a table/) as string },
    ])
    clock.forward(25 * HOUR)
    await room.tick()
    expect(told).toMatchObject([
      ['failed', { given_up: true, problem: expect.stringMatching(/owns a table/) as string }],
    ])
    expect(await stored()).toEqual([])
  })

  it('fault 51: a slow backend is waited for when the caller has given up, and what comes is for the next one', async () => {
    const slow = Promise.withResolvers<undefined>()
    const room = aRoom({ patience: 30 })
    const make = async () => {
      await slow.promise
      return backend.make('reader')
    }
    const given = await Promise.allSettled(Array.from({ length: 5 }, () => room.obtain(ALICE, SOURCE, make)))
    for (const each of given)
      expect(each).toMatchObject({
        reason: { code: 'secret_backend_unavailable', message: expect.stringMatching(/still being made/) as string },
      })
    slow.resolve(undefined)
    await expect.poll(async () => (await stored())[0]?.state).toBe('active')
    expect(await text(room)).toBe('login 1')
    expect([made, alive.size]).toEqual([1, 1])
  })

  it('leases that began together are not renewed together', async () => {
    const now = clock.now()
    const COUNT = 1000
    // A slow disk is no matter here.
    const room = aRoom({ patience: 80_000 })
    const given: Promise<unknown>[] = []
    for (let index = 0; index < COUNT; index += 1)
      given.push(room.obtain({ ...ALICE, user: `user-${index}` }, SOURCE, () => backend.make('reader')))
    await Promise.all(given)
    const at = (await stored()).map(({ nextAt }) => nextAt - now)
    const perMinute = new Map<number, number>()
    for (const time of at) perMinute.set(Math.floor(time / 60_000), (perMinute.get(Math.floor(time / 60_000)) ?? 0) + 1)
    // Evenly over the quarter of an hour there would be 67 in each minute.
    expect(Math.min(...at)).toBeGreaterThanOrEqual(HOUR / 2)
    expect(Math.max(...at)).toBeLessThanOrEqual(HOUR * 0.75 + 60_000)
    expect(Math.max(...perMinute.values())).toBeLessThan(110)
  })
})
