import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createRates, type Rates } from '../../src/cache/rates.ts'
import { settingsSchema, type Settings } from '../../src/config/settings.ts'
import type { DeputyError } from '../../src/errors.ts'
import { findRedis, startRedis, type RedisServer } from '../peers/redis.ts'

const ratesOf = (given: object): Settings['rates'] => settingsSchema.parse({ rates: given }).rates
const admitted = async (
  rates: Rates,
  kind: keyof Settings['rates'],
  parts: readonly string[],
  times: number,
): Promise<number> =>
  (
    await Promise.all(
      Array.from({ length: times }, () =>
        rates.admit(kind, parts).then(
          () => true,
          () => false,
        ),
      ),
    )
  ).filter(Boolean).length

describe('rates of requests', () => {
  it('are none where the settings have none', async () => {
    expect(await admitted(createRates({ rates: () => ratesOf({}) }), 'user', ['acme', 'alice'], 500)).toBe(500)
  })

  it('promise 8: count each by itself, whatever the names are', async () => {
    const rates = createRates({
      rates: () => ratesOf({ user: { requests: 3, per: '10s' }, tenant: { requests: 4, per: '10s' } }),
    })
    expect(await admitted(rates, 'user', ['acme', 'alice'], 10)).toBe(3)
    expect(await admitted(rates, 'user', ['acme', 'bob'], 10)).toBe(3)
    expect(await admitted(rates, 'user', ['acm', 'ealice'], 10)).toBe(3)
    expect(await admitted(rates, 'tenant', ['acme'], 10)).toBe(4)
    expect(await admitted(rates, 'server', ['acme'], 10)).toBe(10)
  })

  it('say who has to wait for how long, and which refusal is the same once more', async () => {
    const rates = createRates({ rates: () => ratesOf({ downstream: { requests: 1, per: '5s' } }) })
    await rates.admit('downstream', ['acme', 'notes'])
    const refusal = (): Promise<DeputyError> =>
      rates.admit('downstream', ['acme', 'notes']).then(
        () => {
          throw new Error('admitted')
        },
        (error: DeputyError) => error,
      )
    const [first, second] = [await refusal(), await refusal()]
    expect(first).toMatchObject({ code: 'rate_limited', message: 'Too many requests for notes by acme.' })
    expect(first.retryAfter).toBeGreaterThanOrEqual(4)
    expect([rates.isRepeated(first), rates.isRepeated(second)]).toEqual([false, true])
  })

  it('follow the settings at once', async () => {
    let current = ratesOf({ server: { requests: 1, per: '60s' } })
    const rates = createRates({ rates: () => current })
    expect(await admitted(rates, 'server', ['notes'], 5)).toBe(1)
    current = ratesOf({ server: { requests: 3, per: '60s' } })
    expect(await admitted(rates, 'server', ['notes'], 5)).toBe(3)
  })

  describe.skipIf(!findRedis())('on a real Redis', () => {
    let server: RedisServer
    const clients: Redis[] = []
    beforeAll(async () => {
      server = await startRedis(['save ""'])
    })
    afterAll(async () => {
      for (const each of clients) each.disconnect()
      await server?.close()
    })
    const aNode = (): Rates => {
      const redis = new Redis({
        port: server.port,
        host: '127.0.0.1',
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
        commandTimeout: 300,
      })
      redis.on('error', () => undefined)
      clients.push(redis)
      return createRates({ rates: () => ratesOf({ user: { requests: 10, per: '60s' } }), redis })
    }

    it('are counted over all nodes together, and by each alone while Redis is away', async () => {
      const nodes = [aNode(), aNode(), aNode()]
      await expect.poll(() => clients.every(({ status }) => status === 'ready')).toBe(true)
      const counts = await Promise.all(nodes.map((node) => admitted(node, 'user', ['acme', 'alice'], 10)))
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(10)
      await server.kill()
      await expect.poll(() => clients.every(({ status }) => status !== 'ready')).toBe(true)
      expect(await admitted(nodes[0]!, 'user', ['acme', 'bob'], 20)).toBe(10)
    })
  })
})
