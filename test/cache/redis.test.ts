import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createRates } from '../../src/foundation/cache/rates.ts'
import { createSharedBytes, redisKey, type RedisOptions, type SharedBytes } from '../../src/foundation/redis/redis.ts'
import { settingsSchema } from '../../src/config/settings.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import {
  askRedis,
  findRedis,
  startRedis,
  startRedisCluster,
  startRedisSentinel,
  type RedisServer,
} from '../peers/redis.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

const optionsFor = (
  mode: RedisOptions['mode'],
  ports: readonly number[],
  given: Partial<RedisOptions> = {},
): RedisOptions => ({
  mode,
  nodes: ports.map((port) => ({ host: '127.0.0.1', port })),
  master: 'mymaster',
  username: undefined,
  password: undefined,
  tls: false,
  deadline: 300,
  ...given,
})
const open: SharedBytes[] = []
const share = async (options: RedisOptions): Promise<SharedBytes> => {
  const shared = createSharedBytes(options, {
    logger: { info() {}, warn() {}, error() {} } as never,
    monotonic: () => performance.now(),
  })
  open.push(shared)
  await expect.poll(() => shared.problem()).toBeNull()
  return shared
}
/** The user of the ACL file in docs/cluster.md, with what the page adds for a Cluster. */
const addDocumentedUser = async (port: number, mode: RedisOptions['mode']): Promise<void> => {
  const page = await readFile(new URL('../../docs/cluster.md', import.meta.url), 'utf8')
  const rules = /^user deputy (.+)$/m.exec(page)![1]!.replace('<password>', 'password').split(' ')
  const forCluster = /A Redis Cluster needs `([^`]+)`/.exec(page)![1]!.split(' ')
  await askRedis(port, (client) =>
    client.call('ACL', 'SETUSER', 'deputy', 'reset', ...rules, ...(mode === 'cluster' ? forCluster : [])),
  )
}
const VALUE = new Uint8Array([0, 1, 2, 255])

describe.skipIf(!findRedis())('bytes that nodes share in Redis', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis(['save ""'])
  })
  afterAll(async () => {
    for (const each of open) await each.close()
    await server?.close()
  })

  for (const [mode, start] of [
    ['single', async () => ({ ports: [server.port], servers: [server.port], close: () => Promise.resolve() })],
    [
      'cluster',
      async () => {
        const { ports, close } = await startRedisCluster()
        return { ports, servers: ports, close }
      },
    ],
    [
      'sentinel',
      async () => {
        const { port, master, close } = await startRedisSentinel()
        return { ports: [port], servers: [master], close }
      },
    ],
  ] as const) {
    it(`fault 99: come back byte for byte until they end, and requests are counted, with the permissions of the docs alone: ${mode}`, async () => {
      const { ports, servers, close } = await start()
      for (const port of servers) await addDocumentedUser(port, mode)
      const shared = await share(optionsFor(mode, ports, { username: 'deputy', password: 'password' }))
      const limits = settingsSchema.parse({ rates: { user: { requests: 2, per: '60s' } } }).rates
      const nodes = Array.from({ length: 3 }, () =>
        createRates({ rates: () => limits, redis: { client: shared.client, logger: silentLogger } }),
      )
      for (const user of ['alice', 'bob', 'carol', 'dave', 'erin']) {
        const counts = await Promise.allSettled(nodes.map((node) => node.admit('user', ['acme', user])))
        expect(counts.filter(({ status }) => status === 'fulfilled')).toHaveLength(2)
      }
      // On a Cluster these fall on all of its servers.
      const ids = Array.from({ length: 60 }, (_, at) => `id-${at}`)
      for (const id of ids) await shared.set('credential', id, VALUE, 60_000)
      for (const id of ids) expect(await shared.get('credential', id)).toEqual(Buffer.from(VALUE))
      await shared.set('credential', 'short', VALUE, 30)
      await shared.set('credential', 'never', VALUE, 0)
      await expect.poll(() => shared.get('credential', 'short')).toBeUndefined()
      expect(await shared.get('credential', 'never')).toBeUndefined()
      for (const id of ids) await shared.remove('credential', id)
      for (const id of ids) expect(await shared.get('credential', id)).toBeUndefined()
      expect(shared.problem()).toBeNull()
      await shared.close()
      await close()
    })
  }

  it('have the id as their hash tag, so that what belongs together is in one slot', async () => {
    const { ports, close } = await startRedisCluster()
    const slotOf = (key: string): Promise<unknown> =>
      askRedis(ports[0]!, (client) => client.call('CLUSTER', 'KEYSLOT', key))
    expect(await slotOf(redisKey('credential', 'abc'))).toBe(await slotOf('{abc}'))
    await close()
  })

  it('nobody waits for a Redis that does not answer: once the deadline, then not at all for a while', async () => {
    const proxy = await startTcpProxy(server.port)
    const shared = await share(optionsFor('single', [proxy.port]))
    await shared.set('credential', 'x', VALUE, 60_000)
    proxy.stall()
    const began = performance.now()
    expect(await shared.get('credential', 'x')).toBeUndefined()
    for (let at = 0; at < 100; at += 1) expect(await shared.get('credential', 'x')).toBeUndefined()
    expect(performance.now() - began).toBeLessThan(900)
    expect(shared.problem()).not.toBeNull()
    proxy.heal()
    await expect.poll(() => shared.get('credential', 'x')).toEqual(Buffer.from(VALUE))
    expect(shared.problem()).toBeNull()
    await shared.close()
    await proxy.close()
  })

  it('a wrong password, a server that is away and one without room are problems with a name, not errors', async () => {
    const guarded = await startRedis(['save ""'])
    await askRedis(guarded.port, (client) => client.config('SET', 'requirepass', 'right'))
    const attempt = async (options: RedisOptions): Promise<string | null> => {
      const shared = createSharedBytes(options, {
        logger: { info() {}, warn() {}, error() {} } as never,
        monotonic: () => performance.now(),
      })
      await new Promise((resolve) => {
        setTimeout(resolve, 300)
      })
      expect(await shared.get('credential', 'x')).toBeUndefined()
      const problem = shared.problem()
      await shared.close()
      return problem
    }
    expect(await attempt(optionsFor('single', [guarded.port], { password: 'wrong' }))).toMatch(/WRONGPASS/)
    expect(await attempt(optionsFor('single', [guarded.port], { password: 'right' }))).toBeNull()
    await guarded.close()
    expect(await attempt(optionsFor('single', [guarded.port]))).toMatch(/ECONNREFUSED|Connection is closed|writeable/)
    const full = await startRedis(['save ""', 'maxmemory 1mb', 'maxmemory-policy noeviction'])
    const shared = await share(optionsFor('single', [full.port]))
    await shared.set('credential', 'x', new Uint8Array(2_000_000), 60_000)
    await shared.set('credential', 'y', VALUE, 60_000)
    expect(shared.problem()).toMatch(/OOM/)
    await shared.close()
    await full.close()
  })
})
