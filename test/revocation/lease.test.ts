import { afterEach, describe, expect, it } from 'vitest'
import { refuse } from '../../src/errors.ts'
import { ClusterMembership } from '../../src/foundation/cluster/cluster-membership.ts'
import type { MembershipOptions } from '../../src/foundation/cluster/membership-options.ts'
import type {
  ClusterStore,
  FoundChanges,
  Knowledge,
  Position,
  Renewal,
  RenewalRequest,
  RevocationChanges,
} from '../../src/foundation/store/records/revocations.ts'
import { aClock } from '../support/snapshot.ts'

const LEASE = 60_000
const SKEW = 500
const CHANGES: RevocationChanges = { revocations: [], disabled: [], frozen: [] }

const HISTORY = ['t0', 't1', 't2', 't3', 't4', 't5', 't6', 't7']
/** What a store answers whose last change has this number. */
const granted = (number: number, now: number): Renewal => ({
  outcome: 'granted',
  last: { number, token: HISTORY[number]! },
  startedAt: 1,
  server: 'first',
  serverAge: Infinity,
  now,
})

/** A store whose answers a test gives, and what was asked of it. */
const aStore = (clock: { now(): number }) => {
  const store = {
    asked: [] as (number | undefined)[],
    requests: [] as RenewalRequest[],
    answer: (_request: RenewalRequest): Promise<Renewal> => Promise.resolve(granted(0, clock.now())),
    knowledge: (): Knowledge => ({ acknowledged: [], waiting: [], expired: [], isLost: false, unsettled: 0 }),
    others: [] as { id: string; about: string; leaseLeft: number; acknowledged: number }[],
    left: [] as string[],
    changed: (): void => undefined,
    server: 'first',
    /** What a look finds that no renewal has asked for. */
    news: undefined as FoundChanges | undefined,
    looks: [] as (Position | undefined)[],
  }
  const cluster: ClusterStore = {
    renew: (request) => {
      store.asked.push(request.applied?.number)
      store.requests.push(request)
      return store.answer(request).then((renewal) => {
        store.server = renewal.server
        return renewal
      })
    },
    changesSince: (after, upTo) => {
      if (upTo !== undefined) return Promise.resolve({ ...CHANGES, last: upTo, server: store.server })
      store.looks.push(after)
      return Promise.resolve(store.news)
    },
    isInHistory: () => Promise.resolve(true),
    whoKnows: () => Promise.resolve(store.knowledge()),
    liftNumber: () => Promise.resolve(),
    durability: () => Promise.resolve({ state: 'alone', sentence: '' }),
    leave: (id) => {
      store.left.push(id)
      return Promise.resolve()
    },
    nodes: () => Promise.resolve(store.others.map((other) => ({ ...other, configuration: null, configuredAt: null }))),
    describe: () => Promise.resolve(),
    exclusively: (_, work) => work(),
    now: () => Promise.resolve(clock.now()),
    subscribe: (changed) => {
      store.changed = changed
      return Promise.resolve({ check() {}, close: () => Promise.resolve() })
    },
  }
  return { store, cluster }
}

const open: ClusterMembership[] = []
afterEach(async () => {
  for (const lease of open.splice(0)) await lease.close()
})

const aNode = (given: Partial<Pick<MembershipOptions, 'apply' | 'lookAgain' | 'replaced'>> = {}) => {
  const clock = aClock()
  const passed = { milliseconds: 0 }
  let tokens = 0
  const { store, cluster } = aStore(clock)
  const start = async (): Promise<ClusterMembership> => {
    const lease = await ClusterMembership.start({
      store: cluster,
      node: 'a',
      incarnation: 'a/1',
      // What was made without the key has no start.
      startOf: (id) => (/^a\/\d+$/.test(id) ? Number(id.slice(2)) : undefined),
      acknowledgements: { prove: (id, { number }) => `${id} has ${number}`, isProven: () => true },
      lease: LEASE,
      skew: SKEW,
      apply: () => undefined,
      lookAgain: () => Promise.resolve(),
      replaced: () => undefined,
      newToken: () => `row ${(tokens += 1)}`,
      ...given,
      clock,
      monotonic: () => passed.milliseconds,
      logger: { info() {}, warn() {}, error() {} } as never,
    })
    open.push(lease)
    return lease
  }
  const forward = (milliseconds: number): void => {
    clock.forward(milliseconds)
    passed.milliseconds += milliseconds
  }
  return { store, start, forward, clock, passed }
}
const isHeld = (lease: ClusterMembership): boolean => lease.status().held
const settled = (): Promise<void> =>
  new Promise((resolve) => {
    setImmediate(resolve)
  })

describe('the lease of a node', () => {
  it('promise 4: ends by the skew earlier than the store thinks, counted from when the renewal was sent', async () => {
    const { store, start, forward } = aNode()
    const lease = await start()
    await expect.poll(() => store.asked).toHaveLength(2)
    forward(LEASE - SKEW - 1)
    expect(isHeld(lease)).toBe(true)
    forward(1)
    expect(isHeld(lease)).toBe(false)
    expect(() => {
      lease.assertHeld()
    }).toThrow(expect.objectContaining({ code: 'membership_lost' }) as Error)
    let answer: (value: Renewal) => void = () => undefined
    store.answer = () =>
      new Promise((resolve) => {
        answer = resolve
      })
    store.changed()
    await settled()
    forward(300)
    answer(granted(0, aClock().now() + LEASE - SKEW + 300))
    await settled()
    expect(isHeld(lease)).toBe(true)
    forward(LEASE - SKEW - 301)
    expect(isHeld(lease)).toBe(true)
    forward(1)
    expect(isHeld(lease)).toBe(false)
  })

  it('promise 4: ends when the machine has slept, whichever of its clocks has noticed', async () => {
    const first = aNode()
    const lease = await first.start()
    first.clock.forward(LEASE)
    expect(isHeld(lease)).toBe(false)
    const second = aNode()
    const other = await second.start()
    second.passed.milliseconds += LEASE
    expect(isHeld(other)).toBe(false)
  })

  it('promise 4: acknowledges what was applied, and nothing before', async () => {
    const order: string[] = []
    const { store, start } = aNode({
      apply: () => {
        order.push(`applied after ${store.asked.length} renewals, acknowledged ${store.asked.at(-1)}`)
      },
    })
    const lease = await start()
    await expect.poll(() => store.asked).toEqual([undefined, 0])
    order.length = 0
    const clock = aClock()
    store.answer = () => Promise.resolve(granted(7, clock.now()))
    store.changed()
    await expect.poll(() => store.asked).toEqual([undefined, 0, 0, 7])
    expect(order).toEqual(['applied after 3 renewals, acknowledged 0'])
    expect(isHeld(lease)).toBe(true)
  })

  it('promise 4: acknowledges a change that it is told of with its next renewal, when that has been applied', async () => {
    const applied: string[] = []
    const { store, start, clock } = aNode({
      apply: ({ revocations }) => {
        applied.push(...revocations.map(({ id }) => `${id} after ${store.asked.length} renewals`))
      },
    })
    await start()
    await expect.poll(() => store.asked).toEqual([undefined, 0])
    const revocation = {
      id: 'r7',
      scope: { kind: 'everything' as const },
      epoch: 1,
      by: 'x',
      reason: null,
      forgetAt: null,
    }
    store.news = { ...CHANGES, revocations: [revocation], last: { number: 7, token: 't7' }, server: 'first' }
    store.answer = () => Promise.resolve(granted(7, clock.now()))
    store.changed()
    await expect.poll(() => store.asked).toEqual([undefined, 0, 7])
    expect(store.looks).toEqual([{ number: 0, token: 't0' }])
    expect(applied).toEqual(['r7 after 2 renewals'])
    // Nothing more is asked for.
    await settled()
    expect(store.asked).toHaveLength(3)
  })

  it.each([
    ['a server that this node has not seen', { ...CHANGES, last: { number: 7, token: 't7' }, server: 'second' }],
    ['a store that has lost what this node knows', undefined],
  ])('promise 4: what it is told by %s is left to the renewal', async (_, news) => {
    const applied: number[] = []
    const { store, start } = aNode({
      apply: () => {
        applied.push(store.asked.length)
      },
    })
    await start()
    await expect.poll(() => store.asked).toEqual([undefined, 0])
    applied.length = 0
    store.news = news
    store.changed()
    await expect.poll(() => store.asked).toEqual([undefined, 0, 0])
    expect(store.looks).toHaveLength(1)
    expect(applied).toEqual([])
  })

  it('promise 4: is not counted when the changes could not be applied', async () => {
    let isFull = false
    const { store, start, forward, clock } = aNode({
      apply: () => {
        if (isFull) throw new Error('no room')
      },
    })
    const lease = await start()
    await expect.poll(() => store.asked).toHaveLength(2)
    isFull = true
    forward(LEASE - SKEW - 10)
    store.answer = () => Promise.resolve(granted(7, clock.now()))
    store.changed()
    await settled()
    forward(10)
    expect(isHeld(lease)).toBe(false)
    expect(store.asked).not.toContain(7)
    expect(lease.status().problem).toContain('no room')
  })

  for (const off of [SKEW + 1, -SKEW - 1]) {
    it(`promise 4: is not taken by a node whose clock is ${off} ms off`, async () => {
      const { store, start, clock } = aNode()
      store.answer = () => Promise.resolve(granted(0, clock.now() - off))
      await expect(start()).rejects.toMatchObject({
        code: 'membership_lost',
        facts: { problem: expect.stringContaining('501 ms apart') as string },
      })
      // The next try need not wait for the end of what this one has not taken.
      expect(store.left).toEqual(['a/1'])
    })
  }

  it("is refused to a second daemon of the same name, and given when the first one's lease is over", async () => {
    const { store, start, passed } = aNode()
    store.others = [{ id: 'a/0', about: 'a', leaseLeft: 1000, acknowledged: 0 }]
    setTimeout(() => {
      store.others = [{ id: 'a/0', about: 'a', leaseLeft: -SKEW, acknowledged: 0 }]
    }, 120)
    expect(isHeld(await start())).toBe(true)
    store.others = [{ id: 'a/0', about: 'a', leaseLeft: LEASE, acknowledged: 0 }]
    setTimeout(() => {
      passed.milliseconds += LEASE + 2 * SKEW + 1
    }, 120)
    await expect(start()).rejects.toMatchObject({ code: 'start_failed' })
  })

  it('fault 101, promise 4: a store with another past gives no lease before this node has looked again and read everything anew', async () => {
    let finish: () => void = () => undefined
    const looks: (string | undefined)[] = []
    const { store, start, clock } = aNode({
      lookAgain: ({ problem }) => {
        looks.push(problem)
        return new Promise((resolve) => {
          finish = resolve
        })
      },
    })
    store.answer = () => Promise.resolve(granted(7, clock.now()))
    const lease = await start()
    await expect.poll(() => store.asked).toEqual([undefined, 7])
    // The next one is promoted: it has lost the last changes, and its numbers mean others.
    store.answer = ({ applied }) =>
      Promise.resolve(
        applied?.token !== 't7'
          ? { ...granted(5, clock.now()), last: { number: 5, token: 'other' }, server: 'second' }
          : {
              outcome: 'foreign_past',
              now: clock.now(),
              server: 'second',
              serverAge: Infinity,
              last: { number: 5, token: 'other' },
              problem: 'number 7 is not there',
              isTorn: false,
            },
      )
    store.changed()
    await expect.poll(() => looks).toEqual(['number 7 is not there'])
    expect(isHeld(lease)).toBe(false)
    expect(lease.status().problem).toContain('the store has lost commits')
    finish()
    await expect.poll(() => isHeld(lease)).toBe(true)
    await expect.poll(() => store.asked).toEqual([undefined, 7, 7, undefined, 5])
    const anew = store.requests[3]!
    expect([anew.previous, anew.written]).toEqual([[], []])
  })

  it('fault 101, promise 4: another process of the server gets no node to serve before that has compared', async () => {
    let looked = 0
    const { store, start, clock } = aNode({
      lookAgain: ({ problem }) => {
        looked += problem === undefined ? 1 : 100
        return looked === 1 ? Promise.reject(new Error('not yet')) : Promise.resolve()
      },
    })
    const lease = await start()
    await expect.poll(() => store.asked).toHaveLength(2)
    store.answer = () => Promise.resolve({ ...granted(0, clock.now()), server: 'second' })
    store.changed()
    await expect.poll(() => lease.status()).toEqual({ node: 'a', held: false, problem: 'not yet', store: null })
    store.changed()
    await expect.poll(() => isHeld(lease)).toBe(true)
    expect(looked).toBe(2)
  })

  it('fault 101: a renewal whose answer was lost leaves no doubt: it is sent again with the same token', async () => {
    const { store, start, clock } = aNode()
    await start()
    await expect.poll(() => store.asked).toHaveLength(2)
    store.answer = () => Promise.reject(refuse('store_unavailable', { problem: 'gone' }))
    store.changed()
    await expect.poll(() => store.asked).toHaveLength(3)
    store.answer = () => Promise.resolve(granted(0, clock.now()))
    store.changed()
    await expect.poll(() => store.asked).toHaveLength(4)
    expect(store.requests.map(({ token, previous }) => [token, previous])).toEqual([
      ['row 1', []],
      ['row 2', ['row 1', 'row 2']],
      ['row 3', ['row 2', 'row 3']],
      ['row 3', ['row 2', 'row 3']],
    ])
  })

  it('fault 101, promise 4: what the store loses while a revocation is confirmed is written again', async () => {
    const { store, start } = aNode()
    const lease = await start()
    let writes = 0
    const write = () => Promise.resolve({ number: 1, token: `written ${(writes += 1)}` })
    const change = await lease.record(write)
    store.knowledge = () => ({ acknowledged: ['b'], waiting: [], expired: [], isLost: writes < 2, unsettled: 0 })
    expect(await lease.confirm(change, write)).toMatchObject({ acknowledged: 1 })
    expect(writes).toBe(2)
    // The next renewal says what this node has written, so that its loss is noticed.
    store.changed()
    await expect
      .poll(() => store.requests.at(-1)!.written.map(({ token }) => token))
      .toEqual(['written 1', 'written 2'])
  })

  it('promise 4: a store whose count has gone back gives no lease before this node has read everything anew', async () => {
    const problems: (string | undefined)[] = []
    const { store, start, clock } = aNode({
      lookAgain: ({ problem }) => {
        problems.push(problem)
        return Promise.resolve()
      },
    })
    store.answer = () => Promise.resolve(granted(5, clock.now()))
    await start()
    await expect.poll(() => store.asked).toEqual([undefined, 5])
    store.answer = () => Promise.resolve(granted(3, clock.now()))
    store.changed()
    await expect.poll(() => store.asked.slice(2, 4)).toEqual([5, undefined])
    expect(problems).toEqual(['its last change has the number 3, and this node knows number 5'])
  })

  it('fault 101, promise 4: a confirmation waits for leases that a server before this one may have granted', async () => {
    const { store, start } = aNode()
    const lease = await start()
    let looks = 0
    store.knowledge = () => ({
      acknowledged: [],
      waiting: [],
      expired: [],
      isLost: false,
      unsettled: (looks += 1) < 4 ? 10 : 0,
    })
    const write = () => Promise.resolve({ number: 1, token: 't' })
    await lease.confirm(await lease.record(write), write)
    expect(looks).toBe(4)
  })

  it('fault 105: an order is written again where the store does not answer, for as long as a node that is gone is waited for', async () => {
    const { start, passed } = aNode()
    const lease = await start()
    let tries = 0
    const write = () => {
      tries += 1
      return tries < 3 ? Promise.reject(refuse('store_unavailable', { problem: 'locked' })) : Promise.resolve(at)
    }
    const at = { number: 1, token: 't' }
    expect(await lease.record(write)).toEqual(at)
    passed.milliseconds += LEASE
    const refused = lease.record(() => {
      passed.milliseconds += LEASE + SKEW + 1
      return Promise.reject(refuse('store_unavailable', { problem: 'locked' }))
    })
    await expect(refused).rejects.toMatchObject({ code: 'store_unavailable' })
  })

  it('fault 103: ends when a younger process has the name of its node, and for no forged row', async () => {
    const ended: string[] = []
    const { store, start, clock } = aNode({
      replaced: ({ code }) => {
        ended.push(code)
      },
    })
    const lease = await start()
    await expect.poll(() => store.asked).toHaveLength(2)
    const shared = (...by: string[]): Renewal => {
      const common = { now: clock.now(), server: 'first', serverAge: 0 }
      return { ...common, outcome: 'name_shared', by }
    }
    // Neither an older one nor a row that was written without the key displaces it.
    store.answer = ({ keepsName }) =>
      Promise.resolve(keepsName ? granted(0, clock.now()) : shared('a/0', 'a/9.forged', 'b/9'))
    store.changed()
    await expect.poll(() => store.requests.slice(2).map(({ keepsName }) => keepsName)).toEqual([false, true])
    await settled()
    expect([ended, isHeld(lease)]).toEqual([[], true])
    store.answer = () => Promise.resolve(shared('a/0', 'a/2'))
    store.changed()
    await expect.poll(() => ended).toEqual(['node_replaced'])
    expect(isHeld(lease)).toBe(false)
    const { length } = store.asked
    store.changed()
    await settled()
    expect(store.asked).toHaveLength(length)
  })

  it('ends when the daemon does: nobody waits for it any more', async () => {
    const { store, start } = aNode()
    const lease = await start()
    await lease.close()
    expect([isHeld(lease), store.left]).toEqual([false, ['a/1']])
  })
})
