import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createRates, type Rates } from '../../src/foundation/cache/rates.ts'
import { settingsSchema, type Settings } from '../../src/config/settings.ts'
import type { DeputyError } from '../../src/errors.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import { askRedis, findRedis, startRedis, type RedisServer } from '../peers/redis.ts'

const monotonic = (): number => performance.now()
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
    expect(await admitted(createRates({ monotonic, rates: () => ratesOf({}) }), 'user', ['acme', 'alice'], 500)).toBe(
      500,
    )
  })

  it('promise 8: count each by itself, whatever the names are', async () => {
    const rates = createRates({
      monotonic,
      rates: () => ratesOf({ user: { requests: 3, per: '10s' }, tenant: { requests: 4, per: '10s' } }),
    })
    expect(await admitted(rates, 'user', ['acme', 'alice'], 10)).toBe(3)
    expect(await admitted(rates, 'user', ['acme', 'bob'], 10)).toBe(3)
    expect(await admitted(rates, 'user', ['acm', 'ealice'], 10)).toBe(3)
    expect(await admitted(rates, 'tenant', ['acme'], 10)).toBe(4)
    expect(await admitted(rates, 'server', ['acme'], 10)).toBe(10)
  })

  it('say who has to wait for how long, and which refusal is the same once more', async () => {
    const rates = createRates({ monotonic, rates: () => ratesOf({ downstream: { requests: 1, per: '5s' } }) })
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
    const rates = createRates({ monotonic, rates: () => current })
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
    const aNode = (port = server.port): Rates => {
      const redis = new Redis({
        port,
        host: '127.0.0.1',
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
        commandTimeout: 300,
      })
      redis.on('error', () => undefined)
      clients.push(redis)
      return createRates({
        monotonic,
        rates: () => ratesOf({ user: { requests: 10, per: '60s' } }),
        redis: { client: redis, logger: silentLogger },
      })
    }

    it('fault 21: cost a Redis that hangs one deadline, and then nothing until it is tried again by one request', async () => {
      const line = await startTcpProxy(server.port)
      const node = aNode(line.port)
      await expect.poll(() => clients.at(-1)!.status).toBe('ready')
      expect(await admitted(node, 'user', ['acme', 'before'], 1)).toBe(1)
      line.stall()
      const took = async (times: number): Promise<number> => {
        const began = performance.now()
        for (let count = 0; count < times; count += 1) await admitted(node, 'user', ['acme', `user-${count}`], 1)
        return performance.now() - began
      }
      expect(await took(1)).toBeGreaterThan(250)
      // Twenty requests would have cost twenty deadlines of 300 ms.
      expect(await took(20)).toBeLessThan(200)
      await new Promise((resolve) => {
        setTimeout(resolve, 1100)
      })
      // One tries, the others do not wait for it.
      const began = performance.now()
      const tried = admitted(node, 'user', ['acme', 'first'], 1)
      expect(await admitted(node, 'user', ['acme', 'second'], 1)).toBe(1)
      expect(performance.now() - began).toBeLessThan(200)
      await tried
      line.heal()
      // Limits hold meanwhile, and are counted together again when Redis is back.
      expect(await admitted(node, 'user', ['acme', 'limited'], 30)).toBe(10)
      await line.close()
    })

    it('fault 99: say in the log and in the status that Redis refuses the script, until it counts again', async () => {
      const asUser = (...rules: readonly string[]): Promise<unknown> =>
        askRedis(server.port, (client) => client.call('ACL', 'SETUSER', 'scriptless', ...rules))
      await asUser('reset', 'on', '>password', '~deputy:*', '+get', '+set', '+info')
      const client = new Redis({
        port: server.port,
        host: '127.0.0.1',
        username: 'scriptless',
        password: 'password',
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
      })
      clients.push(client)
      const said: string[] = []
      const note = (fields: object, message: string): void => void said.push(`${message} ${JSON.stringify(fields)}`)
      let now = 0
      let given: object = { user: { requests: 10, per: '60s' } }
      const rates = createRates({
        monotonic: () => now,
        rates: () => ratesOf(given),
        redis: { client, logger: { ...silentLogger, warn: note, info: note } },
      })
      await expect.poll(() => client.status).toBe('ready')
      expect(rates.problem()).toBeNull()
      expect(await admitted(rates, 'user', ['acme', 'carol'], 20)).toBe(10)
      now += 1000
      await admitted(rates, 'user', ['acme', 'carol'], 1)
      expect(said).toEqual([expect.stringMatching(/^Redis refuses to count requests: .*NOPERM.*eval/)])
      expect(rates.problem()).toMatch(/^each node counts its own requests: NOPERM/)
      // Without any rate nothing is counted; some have a default.
      given = Object.fromEntries(
        [
          'new_clients',
          'new_clients_by_address',
          'sign_ins',
          'sign_ins_by_address',
          'device_codes',
          'device_codes_by_address',
        ].map((kind) => [kind, null]),
      )
      expect(rates.problem()).toBeNull()
      given = { user: { requests: 10, per: '60s' } }
      await asUser('+eval', '+evalsha', '+incrby', '+pttl')
      now += 1000
      expect(await admitted(rates, 'user', ['acme', 'dave'], 1)).toBe(1)
      expect(rates.problem()).toBeNull()
      expect(said[1]).toMatch(/^Redis counts requests again/)
      expect(said).toHaveLength(2)
    })

    it('are counted over all nodes together, and by each alone while Redis is away', async () => {
      const nodes = [aNode(), aNode(), aNode()]
      await expect.poll(() => clients.slice(-3).every(({ status }) => status === 'ready')).toBe(true)
      const counts = await Promise.all(nodes.map((node) => admitted(node, 'user', ['acme', 'alice'], 10)))
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(10)
      await server.kill()
      await expect.poll(() => clients.every(({ status }) => status !== 'ready')).toBe(true)
      expect(await admitted(nodes[0]!, 'user', ['acme', 'bob'], 20)).toBe(10)
    })
  })
})
