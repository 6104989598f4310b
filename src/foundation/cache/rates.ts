import type { Cluster, Redis } from 'ioredis'
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes, type RateLimiterAbstract } from 'rate-limiter-flexible'
import type { Rate, Settings } from '#config'
import { type DeputyError, refuse } from '#errors'
import type { Logger } from '#foundation/telemetry'
import { onOneLine } from '#foundation/text'
import { cacheKey } from './cache.ts'

export type RateKind = keyof Settings['rates']

/** Rates of requests, by the current settings. */
export interface Rates {
  /**
   * Counts a request.
   * @param parts the ids that the rate counts by
   * @throws DeputyError `rate_limited`
   */
  admit(kind: RateKind, parts: readonly string[]): Promise<void>
  /** Whether the same refusal was given before in the same stretch of time: a flood is recorded once. */
  isRepeated(error: DeputyError): boolean
  /**
   * Why nodes that share a Redis do not count together, if Redis itself has refused to; null when all is well or there
   * is no rate.
   */
  problem(): string | null
}

const WORDS: Readonly<Record<RateKind, (parts: readonly string[]) => string>> = {
  server: ([server]) => `the server ${server}`,
  tenant: ([tenant]) => `the tenant ${tenant}`,
  user: ([tenant, user]) => `the user ${user} of ${tenant}`,
  downstream: ([tenant, downstream]) => `${downstream} by ${tenant}`,
  client: ([client]) => `the client ${client}`,
  new_clients_by_address: ([address]) => `clients that Deputy has not met before, from ${address}`,
  new_clients: () => 'clients that Deputy has not met before',
  sign_ins_by_address: ([address]) => `sign-ins from the address ${address}`,
  sign_ins: () => 'sign-ins',
  device_codes_by_address: ([address]) => `device codes, from ${address}`,
  device_codes: () => 'device codes',
}

/** A refusal by Redis itself, such as NOPERM: `SharedBytes.problem` does not see it, because only rates use scripts. */
const refusalOf = (error: unknown): string | undefined =>
  error instanceof Error && error.name === 'ReplyError' ? onOneLine(error.message).slice(0, 200) : undefined

/** After a failure each node counts its own requests for this long (ms), then one request tries Redis again. */
const PAUSE_MS = 1000

/** Whether Redis counts, as its answers show. */
class RedisState {
  readonly #logger: Logger | undefined
  readonly #monotonic: () => number
  /** Undefined while Redis answers. */
  #pausedUntil: number | undefined
  /** The refusal that Redis answered instead of counting. */
  problem: string | null = null

  constructor(logger: Logger | undefined, monotonic: () => number) {
    this.#logger = logger
    this.#monotonic = monotonic
  }

  /** Whether this request asks Redis: all do while it answers, and after a pause one does for all. */
  isAsked(): boolean {
    if (this.#pausedUntil === undefined) return true
    if (this.#monotonic() < this.#pausedUntil) return false
    this.#pausedUntil = this.#monotonic() + PAUSE_MS
    return true
  }

  counted(): void {
    this.#pausedUntil = undefined
    if (this.problem !== null) this.#logger?.info({}, 'Redis counts requests again: rates apply to all nodes together')
    this.problem = null
  }

  failed(error: unknown): void {
    this.#pausedUntil = this.#monotonic() + PAUSE_MS
    const refusal = refusalOf(error)
    if (refusal === undefined) return
    if (this.problem === null)
      this.#logger?.warn(
        { problem: refusal },
        'Redis refuses to count requests: each node counts its own, and all nodes together admit more than the rates allow',
      )
    this.problem = `each node counts its own requests: ${refusal}`
  }
}

interface Limiters {
  readonly rate: Rate
  readonly own: RateLimiterAbstract
  readonly shared: RateLimiterAbstract | undefined
}

/** The limiters of each rate: a node's own, and the one in Redis. A changed rate gets new ones. */
const createLimiters = (client: Redis | Cluster | undefined) => {
  const limiters = new Map<RateKind, Limiters>()
  return (kind: RateKind, rate: Rate): Limiters => {
    const known = limiters.get(kind)
    if (known?.rate.requests === rate.requests && known.rate.per === rate.per) return known
    const common = { points: rate.requests, duration: rate.per / 1000, keyPrefix: `deputy:rate:${kind}` }
    const made: Limiters = {
      rate,
      own: new RateLimiterMemory(common),
      shared:
        client === undefined
          ? undefined
          : new RateLimiterRedis({ ...common, storeClient: client, rejectIfRedisNotReady: true }),
    }
    limiters.set(kind, made)
    return made
  }
}

/** Counts a request in Redis, or at this node while Redis does not count. @throws RateLimiterRes where the rate is used up */
const consume = async ({ own, shared }: Limiters, key: string, redis: RedisState): Promise<void> => {
  if (shared === undefined || !redis.isAsked()) {
    await own.consume(key)
    return
  }
  try {
    await shared.consume(key)
    redis.counted()
  } catch (error) {
    if (error instanceof RateLimiterRes) {
      redis.counted()
      throw error
    }
    redis.failed(error)
    await own.consume(key)
  }
}

/**
 * @param options.redis where nodes count together; while Redis does not answer each node counts by itself, and no request waits
 * @param options.monotonic never goes back (ms); default: the process's own
 */
export const createRates = (options: {
  readonly rates: () => Settings['rates']
  readonly redis?: { readonly client: Redis | Cluster; readonly logger: Logger } | undefined
  readonly monotonic?: () => number
}): Rates => {
  const { monotonic = () => performance.now() } = options
  const limitersFor = createLimiters(options.redis?.client)
  const redis = new RedisState(options.redis?.logger, monotonic)
  const repeated = new WeakSet<DeputyError>()
  return {
    async admit(kind, parts) {
      const rate = options.rates()[kind]
      if (rate === null) return
      try {
        await consume(limitersFor(kind, rate), cacheKey(...parts), redis)
      } catch (thrown) {
        if (!(thrown instanceof RateLimiterRes)) throw thrown
        const error = refuse('rate_limited', {
          what: WORDS[kind](parts),
          seconds: Math.max(1, Math.ceil(thrown.msBeforeNext / 1000)),
        })
        if (thrown.consumedPoints > rate.requests + 1) repeated.add(error)
        throw error
      }
    },
    isRepeated: (error) => repeated.has(error),
    problem: () => (Object.values(options.rates()).some((rate) => rate !== null) ? redis.problem : null),
  }
}
