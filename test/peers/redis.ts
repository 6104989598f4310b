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
const startAll = async (starting: readonly Promise<ClusterServer>[]): Promise<ClusterServer[]> => {
  const results = await Promise.allSettled(starting)
  const started = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  for (const result of results)
    if (result.status === 'rejected') {
      await Promise.all(started.map(({ server }) => server.close()))
      throw result.reason
    }
  return started
}

const SLOTS = 16_384

interface ClusterServer {
  readonly server: RedisServer
  /** Where the servers of a cluster speak with each other. */
  readonly bus: number
}

/** The bus has a port of its own: by default it is 10,000 above the other, where the kernel may have an outgoing connection. */
const startClusterServer = async (): Promise<ClusterServer> => {
  const bus = await freePort()
  const settings = ['cluster-enabled yes', `cluster-port ${bus}`, 'cluster-config-file nodes.conf', 'save ""']
  return { server: await startRedis(settings), bus }
}

/**
 * Makes one cluster of the servers. Each has its epoch and its slots before the first has met another: a server that knows another
 * one takes no epoch any more (https://redis.io/docs/latest/commands/cluster-set-config-epoch/).
 */
const joinAll = async (members: readonly ClusterServer[]): Promise<void> => {
  const servers = members.map(({ server }) => server)
  for (const [index, { port }] of servers.entries()) {
    const [from, to] = [Math.ceil((SLOTS * index) / 3), Math.ceil((SLOTS * (index + 1)) / 3) - 1]
    await askRedis(port, async (client) => {
      await client.call('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1))
      await client.call('CLUSTER', 'ADDSLOTSRANGE', String(from), String(to))
    })
  }
  for (const { port } of servers)
    await askRedis(port, async (client) => {
      for (const { server: other, bus } of members)
        if (other.port !== port) await client.call('CLUSTER', 'MEET', '127.0.0.1', String(other.port), String(bus))
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
  const members = await startAll(Array.from({ length: 3 }, startClusterServer))
  const servers = members.map(({ server }) => server)
  const close = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.close()))
  }
  await joinAll(members).catch(async (error: unknown) => {
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
