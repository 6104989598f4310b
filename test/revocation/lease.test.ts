import { afterEach, describe, expect, it } from 'vitest'
import { NodeLease } from '../../src/revocation/lease.ts'
import type { ClusterStore, StandingChanges } from '../../src/store/records/revocations.ts'
import { aClock } from '../support/snapshot.ts'

const LEASE = 60_000
const SKEW = 500
const CHANGES: StandingChanges = { revocations: [], disabled: [], frozen: [] }

type Renewed = Awaited<ReturnType<ClusterStore['renew']>>

/** A store whose answers a test gives, and what was asked of it. */
const aStore = (clock: { now(): number }) => {
  const store = {
    asked: [] as number[],
    answer: (): Promise<Renewed> => Promise.resolve({ number: 0, now: clock.now(), changes: undefined }),
    others: [] as { id: string; about: string; leaseLeft: number; acknowledged: number }[],
    left: [] as string[],
    changed: (): void => undefined,
  }
  const cluster: ClusterStore = {
    renew: ({ acknowledged }) => {
      store.asked.push(acknowledged)
      return store.answer()
    },
    whoKnows: () => Promise.resolve({ acknowledged: [], waiting: [], expired: [] }),
    leave: (id) => {
      store.left.push(id)
      return Promise.resolve()
    },
    nodes: () => Promise.resolve(store.others),
    exclusively: (_, work) => work(),
    now: () => Promise.resolve(clock.now()),
    subscribe: (changed) => {
      store.changed = changed
      return Promise.resolve(() => Promise.resolve())
    },
  }
  return { store, cluster }
}

const open: NodeLease[] = []
afterEach(async () => {
  for (const lease of open.splice(0)) await lease.close()
})

const aNode = (given: { apply?: (changes: StandingChanges) => void } = {}) => {
  const clock = aClock()
  const passed = { milliseconds: 0 }
  const { store, cluster } = aStore(clock)
  const start = async (): Promise<NodeLease> => {
    const lease = await NodeLease.start({
      store: cluster,
      node: 'a',
      incarnation: 'a/1',
      lease: LEASE,
      skew: SKEW,
      apply: given.apply ?? (() => undefined),
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
const isHeld = (lease: NodeLease): boolean => lease.status().held
const settled = (): Promise<void> =>
  new Promise((resolve) => {
    setImmediate(resolve)
  })

describe('the lease of a node', () => {
  it('promise 4: ends by the skew earlier than the store thinks, counted from when the renewal was sent', async () => {
    const { store, start, forward } = aNode()
    const lease = await start()
    forward(LEASE - SKEW - 1)
    expect(isHeld(lease)).toBe(true)
    forward(1)
    expect(isHeld(lease)).toBe(false)
    expect(() => {
      lease.assertHeld()
    }).toThrow(expect.objectContaining({ code: 'lease_lost' }) as Error)
    let answer: (value: Renewed) => void = () => undefined
    store.answer = () =>
      new Promise((resolve) => {
        answer = resolve
      })
    store.changed()
    forward(300)
    answer({ number: 0, now: aClock().now() + LEASE - SKEW + 300, changes: undefined })
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
    const clock = aClock()
    store.answer = () =>
      Promise.resolve({ number: 7, now: clock.now(), changes: store.asked.at(-1) === 7 ? undefined : CHANGES })
    store.changed()
    await expect.poll(() => store.asked).toEqual([0, 0, 7])
    expect(order).toEqual(['applied after 2 renewals, acknowledged 0'])
    expect(isHeld(lease)).toBe(true)
  })

  it('promise 4: is not counted when the changes could not be applied', async () => {
    const { store, start, forward, clock } = aNode({
      apply: () => {
        throw new Error('no room')
      },
    })
    const lease = await start()
    forward(LEASE - SKEW - 10)
    store.answer = () => Promise.resolve({ number: 7, now: clock.now(), changes: CHANGES })
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
      store.answer = () => Promise.resolve({ number: 0, now: clock.now() - off, changes: undefined })
      await expect(start()).rejects.toMatchObject({
        code: 'lease_lost',
        facts: { problem: expect.stringContaining('501 ms apart') as string },
      })
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

  it('ends when the daemon does: nobody waits for it any more', async () => {
    const { store, start } = aNode()
    const lease = await start()
    await lease.close()
    expect([isHeld(lease), store.left]).toEqual([false, ['a/1']])
  })
})
