import { Cluster, Redis } from 'ioredis'
import { currentTls, type TlsMaterial } from '#foundation/files'
import type { Logger } from '#foundation/telemetry'

/** How Redis is reached: one server, servers watched by Sentinel, or a Cluster. */
export interface RedisOptions {
  readonly mode: 'single' | 'sentinel' | 'cluster'
  /** The server; or the sentinels; or some nodes of the cluster. */
  readonly nodes: readonly { readonly host: string; readonly port: number }[]
  /** The name under which the sentinels know the master. */
  readonly master: string
  readonly username: string | undefined
  readonly password: string | undefined
  readonly tls: TlsMaterial | boolean
  /** How the sentinels themselves are reached; absent: without a login and without TLS. */
  readonly sentinel?:
    | {
        readonly username: string | undefined
        readonly password: string | undefined
        readonly tls: TlsMaterial | boolean
      }
    | undefined
  /** Time limit for an answer of Redis (ms); after it the work continues without Redis. */
  readonly deadline: number
}

/** What is kept in Redis; every kind has keys of its own. */
export type Keyspace = 'credential' | 'rest'

/**
 * A key of one keyspace. The id is the hash tag, so that on a Cluster whatever belongs to one id is in one slot
 * (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
 */
export const redisKey = (space: Keyspace, id: string): string => `deputy:${space}:{${id}}`

/** Values that nodes share, as bytes. Redis is never trusted: a reader must be able to do without a value, and to verify it. */
export interface SharedBytes {
  /** Undefined also when Redis does not answer in time. */
  get(space: Keyspace, id: string): Promise<Uint8Array | undefined>
  /** @param life ms */
  set(space: Keyspace, id: string, value: Uint8Array, life: number): Promise<void>
  remove(space: Keyspace, id: string): Promise<void>
  /** The connection, for what speaks Redis by itself. */
  readonly client: Redis | Cluster
  /** Null when all is well. */
  problem(): string | null
  close(): Promise<void>
}

/** After a failure no request waits for Redis for this long (ms). */
const REST = 1000

/** What `ioredis` takes as `tls`, and reads at each connection: nothing at all is no TLS. */
const tlsFor = (tls: TlsMaterial | boolean): TlsMaterial | undefined =>
  typeof tls === 'boolean' ? (tls ? {} : undefined) : currentTls(tls)

/**
 * https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#configuring-sentinel-instances-with-authentication
 */
const sentinelAccess = ({ sentinel, deadline }: RedisOptions) => {
  const tls = tlsFor(sentinel?.tls ?? false)
  return {
    ...(sentinel?.username === undefined ? {} : { sentinelUsername: sentinel.username }),
    ...(sentinel?.password === undefined ? {} : { sentinelPassword: sentinel.password }),
    ...(tls === undefined ? {} : { sentinelTLS: tls }),
    sentinelCommandTimeout: Math.max(deadline, 1000),
  }
}

/** @see https://redis.github.io/ioredis/index.html */
const connect = (options: RedisOptions): Redis | Cluster => {
  const { mode, nodes, master, username, password, deadline } = options
  const tls = tlsFor(options.tls)
  const common = {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls }),
    commandTimeout: deadline,
    connectTimeout: Math.max(deadline, 1000),
    maxRetriesPerRequest: 0,
  }
  // Back within half a second of Redis being back; requests do not wait for it in a queue.
  const again = (attempt: number): number => Math.min(attempt * 50, 500)
  switch (mode) {
    case 'cluster':
      return new Cluster(
        nodes.map((node) => ({ ...node })),
        {
          redisOptions: common,
          enableOfflineQueue: false,
          clusterRetryStrategy: again,
          slotsRefreshTimeout: Math.max(deadline, 1000),
        },
      )
    case 'sentinel':
      return new Redis({
        ...common,
        sentinels: nodes.map((node) => ({ ...node })),
        name: master,
        enableTLSForSentinelMode: tls !== undefined,
        ...sentinelAccess(options),
        enableOfflineQueue: false,
        retryStrategy: again,
        sentinelRetryStrategy: again,
      })
    case 'single':
      return new Redis({ ...common, ...nodes[0]!, enableOfflineQueue: false, retryStrategy: again })
  }
}

/** @param monotonic never goes back (ms) */
export const createSharedBytes = (
  options: RedisOptions,
  { logger, monotonic }: { logger: Logger; monotonic: () => number },
): SharedBytes => {
  const redis = connect(options)
  let problem: string | null = 'it is not connected yet'
  let restsUntil = 0
  /** The outage has its line in the log; one that began before the first connection as well. */
  let isTold = false
  const well = (): void => {
    if (problem !== null) logger.info({}, 'Redis answers: credentials are shared between the nodes')
    problem = null
    isTold = false
  }
  const ill = (error: unknown): void => {
    const said = (error as Error).message.slice(0, 200)
    if (!isTold)
      logger.warn({ problem: said }, 'Redis does not answer: the daemon continues with the store and its own cache')
    isTold = true
    problem = said
    restsUntil = monotonic() + REST
  }
  redis.on('ready', () => {
    restsUntil = 0
    well()
  })
  redis.on('error', ill)

  const tried = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
    if (monotonic() < restsUntil) return undefined
    try {
      const result = await work()
      well()
      return result
    } catch (error) {
      ill(error)
      return undefined
    }
  }

  return {
    async get(space, id) {
      return (await tried(() => redis.getBuffer(redisKey(space, id)))) ?? undefined
    },
    async set(space, id, value, life) {
      if (life >= 1) await tried(() => redis.set(redisKey(space, id), Buffer.from(value), 'PX', Math.floor(life)))
    },
    async remove(space, id) {
      await tried(() => redis.del(redisKey(space, id)))
    },
    client: redis,
    problem: () => problem,
    close() {
      redis.disconnect()
      return Promise.resolve()
    },
  }
}
