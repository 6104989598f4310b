/** A real Redis server of our own, in a temporary folder: alone, with Sentinel, or as a Cluster. */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { freePort, stopProcess } from '../support/process.ts'

const PROGRAM = '/usr/bin/redis-server'

export const findRedis = (): boolean => {
  const found = existsSync(PROGRAM)
  if (!found)
    process.stderr.write('\n*** SKIPPED: the tests that need Redis. Install the package `redis-server`. ***\n\n')
  return found
}

export interface RedisServer {
  readonly port: number
  process: ChildProcess
  start(): Promise<void>
  kill(): Promise<void>
  close(): Promise<void>
}

/** Asks a server once. */
export const askRedis = async <T>(port: number, work: (client: Redis) => Promise<T>): Promise<T> => {
  const client = new Redis({
    port,
    host: '127.0.0.1',
    lazyConnect: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return await work(client)
  } finally {
    client.disconnect()
  }
}

/** @param settings lines of the configuration file, https://redis.io/docs/latest/operate/oss_and_stack/management/config/ */
export const startRedis = async (
  settings: readonly string[] = [],
  args: readonly string[] = [],
): Promise<RedisServer> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-redis-'))
  const port = await freePort()
  const file = join(folder, 'redis.conf')
  await writeFile(file, [`port ${port}`, 'bind 127.0.0.1', `dir ${folder}`, 'daemonize no', ...settings].join('\n'))
  const server: RedisServer = {
    port,
    process: undefined as unknown as ChildProcess,
    async start() {
      server.process = spawn(PROGRAM, [file, ...args], { stdio: 'ignore' })
      for (let attempt = 0; ; attempt += 1) {
        try {
          await askRedis(port, (client) => client.ping())
          return
        } catch (error) {
          if (attempt === 1200) throw error
          await new Promise((resolve) => {
            setTimeout(resolve, 25)
          })
        }
      }
    },
    kill: () => stopProcess(server.process, 'SIGKILL'),
    async close() {
      await server.kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
  await server.start().catch(async (error: unknown) => {
    await server.close()
    throw error
  })
  return server
}

/** Starts servers of which each is needed. @throws what the first failure threw, after the others are closed */
const startAll = async (starting: readonly Promise<RedisServer>[]): Promise<RedisServer[]> => {
  const results = await Promise.allSettled(starting)
  const servers = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  for (const result of results)
    if (result.status === 'rejected') {
      await Promise.all(servers.map((server) => server.close()))
      throw result.reason
    }
  return servers
}

const SLOTS = 16_384

/**
 * Makes one cluster of the servers. Each has its epoch and its slots before the first has met another: a server that knows another
 * one takes no epoch any more (https://redis.io/docs/latest/commands/cluster-set-config-epoch/).
 */
const joinAll = async (servers: readonly RedisServer[]): Promise<void> => {
  for (const [index, { port }] of servers.entries()) {
    const [from, to] = [Math.ceil((SLOTS * index) / 3), Math.ceil((SLOTS * (index + 1)) / 3) - 1]
    await askRedis(port, async (client) => {
      await client.call('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1))
      await client.call('CLUSTER', 'ADDSLOTSRANGE', String(from), String(to))
    })
  }
  for (const { port } of servers)
    await askRedis(port, async (client) => {
      for (const other of servers)
        if (other.port !== port) await client.call('CLUSTER', 'MEET', '127.0.0.1', String(other.port))
    })
  for (let attempt = 0; ; attempt += 1) {
    const states = await Promise.all(
      servers.map(({ port }) => askRedis(port, (client) => client.call('CLUSTER', 'INFO') as Promise<string>)),
    )
    if (states.every((state) => state.includes('cluster_state:ok') && state.includes('cluster_known_nodes:3'))) return
    if (attempt === 2400) throw new Error('the Redis Cluster did not form')
    await new Promise((resolve) => {
      setTimeout(resolve, 25)
    })
  }
}

/** Three masters that share the slots (https://redis.io/docs/latest/operate/oss_and_stack/management/scaling/). */
export const startRedisCluster = async (): Promise<{ ports: number[]; close(): Promise<void> }> => {
  const servers = await startAll(
    Array.from({ length: 3 }, () => startRedis(['cluster-enabled yes', 'cluster-config-file nodes.conf', 'save ""'])),
  )
  const close = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.close()))
  }
  await joinAll(servers).catch(async (error: unknown) => {
    await close()
    throw error
  })
  return { ports: servers.map(({ port }) => port), close }
}

/** A master and a sentinel that watches it. */
export const startRedisSentinel = async (): Promise<{ port: number; master: number; close(): Promise<void> }> => {
  const master = await startRedis(['save ""'])
  const sentinel = await startRedis([`sentinel monitor mymaster 127.0.0.1 ${master.port} 1`], ['--sentinel']).catch(
    async (error: unknown) => {
      await master.close()
      throw error
    },
  )
  return {
    port: sentinel.port,
    master: master.port,
    async close() {
      await sentinel.close()
      await master.close()
    },
  }
}
