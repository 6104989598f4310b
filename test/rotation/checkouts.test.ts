import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createCheckouts, type CheckoutProcess } from '../../src/flows/rotation/checkouts.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'
import { aClock } from '../support/snapshot.ts'

const SECRET = { tenant: 'acme', backend: 'embedded', secret: 'key' }
const MINUTE = 60_000

describe('checkouts of a rotating secret', () => {
  let keysAndStore: KeysAndStore
  let clock: ReturnType<typeof aClock>
  let current: string
  let reads: number
  let outdated: number
  beforeEach(async () => {
    keysAndStore = await startGround()
    clock = aClock()
    current = 'v1'
    reads = 0
    outdated = 0
  })
  afterEach(async () => {
    await keysAndStore.close()
  })
  const aRoom = (node = 'one') =>
    createCheckouts({
      store: keysAndStore.store.secretHolders,
      node,
      clock,
      currentOf: () => {
        reads += 1
        return Promise.resolve(current)
      },
      outdated: () => {
        outdated += 1
      },
    })
  const process = (pid: string | undefined, user: string | null = 'alice'): CheckoutProcess => ({
    server: 'notes',
    user,
    process: pid,
  })
  const checkOut = (
    checkouts: ReturnType<typeof aRoom>,
    version: string,
    who: CheckoutProcess,
    life = MINUTE,
    mustBeCurrent = true,
  ) => checkouts.checkOut({ secret: SECRET, version, mustBeCurrent }, who, clock.now() + life)

  it('promise 7: a process has moved when it has the new one; until then, or until its time is over, it is on the old one', async () => {
    const [one, two] = [aRoom('one'), aRoom('two')]
    expect([
      await checkOut(one, 'v1', process('1')),
      await checkOut(one, 'v1', process('2')),
      await checkOut(two, 'v1', process('1')),
    ]).toEqual([true, true, true])
    current = 'v2'
    expect(await one.of(SECRET, 'v1')).toHaveLength(3)
    await checkOut(one, 'v2', process('1'))
    expect(await one.of(SECRET, 'v1')).toHaveLength(2)
    await checkOut(two, 'v2', process('1'))
    expect((await one.of(SECRET, 'v1')).map(({ server }) => server)).toEqual(['notes'])
    clock.forward(MINUTE * 1.25)
    expect(await one.of(SECRET, 'v1')).toEqual([])
  })

  it('promise 7: of two users of one process, and of processes that cannot be told apart, one that moves does not speak for the other', async () => {
    const checkouts = aRoom()
    await checkOut(checkouts, 'v1', process('1', 'alice'))
    await checkOut(checkouts, 'v1', process('1', 'bob'))
    await checkOut(checkouts, 'v1', process(undefined))
    current = 'v2'
    await checkOut(checkouts, 'v2', process('1', 'alice'))
    await checkOut(checkouts, 'v2', process(undefined))
    expect(await checkouts.of(SECRET, 'v1')).toHaveLength(2)
  })

  it('promise 7: what was replaced while it was written down is not handed out', async () => {
    const checkouts = aRoom()
    current = 'v2'
    expect([await checkOut(checkouts, 'v1', process('1')), outdated]).toEqual([false, 1])
    // Where the grace does not end early nothing depends on it, and nobody is asked.
    expect([await checkOut(checkouts, 'v1', process('2'), MINUTE, false), reads]).toEqual([true, 1])
  })

  it('writes rarely, and never too short', async () => {
    const checkouts = aRoom()
    for (let second = 0; second < 300; second += 1) {
      await checkOut(checkouts, 'v1', process('1'))
      const until = (await checkouts.of(SECRET, 'v1'))[0]!.until
      expect(until).toBeGreaterThanOrEqual(clock.now() + MINUTE)
      clock.forward(1000)
    }
    expect(reads).toBeLessThan(25)
  })
})
