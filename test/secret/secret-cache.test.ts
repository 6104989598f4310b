import { beforeEach, describe, expect, it } from 'vitest'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { refuse } from '../../src/errors.ts'
import { SecretCache } from '../../src/credentials/secret/secret-cache.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { aClock } from '../support/snapshot.ts'

describe('the secret cache', () => {
  let clock: ReturnType<typeof aClock>
  let reads: number
  let current: string
  let failing: 'secret_backend_unavailable' | 'secret_backend_refused' | 'secret_missing' | undefined
  let during: () => Promise<void>
  let more: Record<string, string | number>
  beforeEach(() => {
    clock = aClock(1_000_000)
    reads = 0
    current = 'one'
    failing = undefined
    more = {}
    during = () => Promise.resolve()
  })
  const aCache = (fresh = 10_000) =>
    new SecretCache(
      {
        async read() {
          reads += 1
          const value = current
          await during()
          if (failing !== undefined) throw refuse(failing, { backend: 'b', problem: 'sealed', ...more })
          return { value: new Secret(value), version: value, token: null }
        },
      },
      {
        id: 'b',
        logger: silentLogger,
        fresh,
        stale: 60_000,
        limit: 30_000,
        clock,
        monotonic: () => clock.now(),
      },
    )
  const value = async (cache: ReturnType<typeof aCache>, grace?: number): Promise<string> =>
    (await cache.read('acme', 'key', grace)).value.reveal()

  it('asks once while what it has is fresh, however many ask', async () => {
    const cache = aCache()
    expect(await Promise.all(Array.from({ length: 10 }, () => value(cache)))).toEqual(
      Array.from({ length: 10 }, () => 'one'),
    )
    current = 'two'
    clock.forward(10_000)
    expect([await value(cache), reads]).toEqual(['one', 1])
    clock.forward(1)
    expect([await value(cache), reads]).toEqual(['two', 2])
  })

  it('fault 97: what is kept for long is read again beside a request, before one has to wait for it', async () => {
    const cache = aCache(300_000)
    await value(cache)
    clock.forward(200_000)
    expect([await value(cache), reads]).toEqual(['one', 1])
    current = 'two'
    clock.forward(50_000)
    expect([await value(cache), reads]).toEqual(['one', 2])
    await expect.poll(() => value(cache)).toBe('two')
    expect(reads).toBe(2)
  })

  it('fault 53: what is refused stands in the status until it is read, and no copies are spoken of where there are none', async () => {
    const cache = aCache()
    more = { whole: 'yes' }
    failing = 'secret_backend_unavailable'
    await value(cache).catch(() => undefined)
    expect(cache.problem()).toBe('sealed')
    failing = 'secret_backend_refused'
    await value(cache).catch(() => undefined)
    expect(cache.problem()).toBe('refused for the secret acme/key: sealed')
    failing = undefined
    await value(cache)
    expect(cache.problem()).toBeUndefined()
  })

  it('survives an outage on what it has until that is stale, and says so', async () => {
    const cache = aCache()
    await value(cache)
    failing = 'secret_backend_unavailable'
    clock.forward(60_000)
    expect(await value(cache)).toBe('one')
    expect(cache.problem()).toBe('sealed; secrets that were read before are in use')
    // The next one does not wait for another failure.
    let goOn: () => void = () => undefined
    during = () =>
      new Promise((resolve) => {
        goOn = resolve
      })
    expect(await value(cache)).toBe('one')
    goOn()
    during = () => Promise.resolve()
    clock.forward(1)
    await expect(value(cache)).rejects.toMatchObject({ code: 'secret_backend_unavailable' })
    failing = undefined
    expect(await value(cache)).toBe('one')
    expect(cache.problem()).toBeUndefined()
  })

  it.each(['secret_missing', 'secret_backend_refused'] as const)(
    'promise 4: %s is no outage: what it had is used no more',
    async (code) => {
      const cache = aCache()
      await value(cache)
      clock.forward(10_001)
      failing = code
      await expect(value(cache)).rejects.toMatchObject({ code })
      failing = 'secret_backend_unavailable'
      await expect(value(cache)).rejects.toMatchObject({ code: 'secret_backend_unavailable' })
    },
  )

  it('fault 47: a refusal that is neither a 404 nor a 403 takes nothing away', async () => {
    const cache = aCache()
    await value(cache)
    clock.forward(10_001)
    failing = 'secret_backend_refused'
    more = { status: 400 }
    await expect(value(cache)).rejects.toMatchObject({ code: 'secret_backend_refused' })
    failing = 'secret_backend_unavailable'
    expect(await value(cache)).toBe('one')
  })

  it('fault 45: one secret that fails costs no request for another its copy, and none of its own waits', async () => {
    const cache = aCache()
    await value(cache)
    clock.forward(10_001)
    failing = 'secret_backend_unavailable'
    expect(await value(cache)).toBe('one')
    failing = undefined
    await cache.read('acme', 'another')
    // The other one was read meanwhile: this one still is known to fail.
    during = () => new Promise(() => undefined)
    expect(await value(cache)).toBe('one')
  })

  it('fault 90: a silent backend holds up one request with a usable copy, for a second, and a reading that hangs is not shared for ever', async () => {
    const cache = aCache()
    await value(cache)
    clock.forward(10_001)
    during = () => new Promise(() => undefined)
    const began = performance.now()
    expect(await value(cache)).toBe('one')
    const waited = performance.now() - began
    expect(await value(cache)).toBe('one')
    expect([waited > 900, waited < 3000, performance.now() - began - waited < 100]).toEqual([true, true, true])
    during = () => Promise.resolve()
    current = 'two'
    clock.forward(30_001)
    expect(await value(cache)).toBe('one')
    await expect.poll(() => value(cache)).toBe('two')
  })

  it('promise 7: of a secret that rotates nothing is used that could have ended, and it says how old it is', async () => {
    const cache = aCache()
    const readAt = clock.now()
    await value(cache, 2000)
    clock.forward(500)
    expect((await cache.read('acme', 'key', 2000)).readAt).toBe(readAt)
    failing = 'secret_backend_unavailable'
    clock.forward(1000)
    expect(await value(cache, 2000)).toBe('one')
    clock.forward(1)
    await expect(value(cache, 2000)).rejects.toMatchObject({ code: 'secret_backend_unavailable' })
  })

  it('threat 24: a reading that began before it was told to forget does not count afterwards', async () => {
    const cache = aCache()
    let goOn: () => void = () => undefined
    during = () =>
      new Promise((resolve) => {
        goOn = resolve
      })
    const slow = value(cache)
    await Promise.resolve()
    current = 'two'
    cache.forget('acme', 'key')
    during = () => Promise.resolve()
    expect(await value(cache)).toBe('two')
    goOn()
    await slow
    expect(await value(cache)).toBe('two')
  })
})
