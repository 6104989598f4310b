import type { Cluster, Redis } from 'ioredis'
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes, type RateLimiterAbstract } from 'rate-limiter-flexible'
import type { Rate, Settings } from '#config'
import { type DeputyError, refuse } from '#errors'
import type { Logger } from '#foundation/telemetry'
import { onOneLine } from '#foundation/text'
import { cacheKey } from './cache.ts'

export type RateKind = keyof Settings['rates']

/** Rates of requests, as the settings have them at the moment. */
export interface Rates {
  /**
   * Counts a request.
   * @param parts whose it is
   * @throws DeputyError `rate_limited`
   */
  admit(kind: RateKind, parts: readonly string[]): Promise<void>
  /** Whether the same one was refused before in the same stretch of time: a flood is written down once. */
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
}

/**
 * A refusal by Redis itself, such as NOPERM: `SharedBytes.problem` does not see it, because rates alone use scripts.
 */
const refusalOf = (error: unknown): string | undefined =>
  error instanceof Error && error.name === 'ReplyError' ? onOneLine(error.message).slice(0, 200) : undefined

/** After a failure the nodes count by themselves for so long (ms), then one request tries Redis again. */
const REST_MS = 1000

interface Limiters {
  readonly rate: Rate
  readonly own: RateLimiterAbstract
  readonly shared: RateLimiterAbstract | undefined
}

/**
 * @param options.redis where nodes count together; while it is away each counts by itself, and no request waits for it
 * @param options.monotonic never goes back (ms); default: the process's own
 */
export const createRates = (options: {
  readonly rates: () => Settings['rates']
  readonly redis?: { readonly client: Redis | Cluster; readonly logger: Logger } | undefined
  readonly monotonic?: () => number
}): Rates => {
  const { monotonic = () => performance.now() } = options
  const limiters = new Map<RateKind, Limiters>()
  const repeated = new WeakSet<DeputyError>()
  /** Undefined while Redis answers. */
  let restsUntil: number | undefined
  /** What Redis has answered instead of counting. */
  let problem: string | null = null

  const counted = (): void => {
    restsUntil = undefined
    if (problem !== null) options.redis?.logger.info({}, 'Redis counts again: rates hold over all nodes together')
    problem = null
  }
  const notCounted = (error: unknown): void => {
    restsUntil = monotonic() + REST_MS
    const refusal = refusalOf(error)
    if (refusal === undefined) return
    if (problem === null)
      options.redis?.logger.warn(
        { problem: refusal },
        'Redis refuses to count requests: each node counts its own, and all nodes together admit more than the rates say',
      )
    problem = `each node counts its own requests: ${refusal}`
  }

  const limitersFor = (kind: RateKind, rate: Rate): Limiters => {
    const known = limiters.get(kind)
    if (known?.rate.requests === rate.requests && known.rate.per === rate.per) return known
    const common = { points: rate.requests, duration: rate.per / 1000, keyPrefix: `deputy:rate:${kind}` }
    const made: Limiters = {
      rate,
      own: new RateLimiterMemory(common),
      shared:
        options.redis === undefined
          ? undefined
          : new RateLimiterRedis({ ...common, storeClient: options.redis.client, rejectIfRedisNotReady: true }),
    }
    limiters.set(kind, made)
    return made
  }

  /** Whether this request asks Redis: all do while it answers, and after a rest one does for all. */
  const asksRedis = (): boolean => {
    if (restsUntil === undefined) return true
    if (monotonic() < restsUntil) return false
    restsUntil = monotonic() + REST_MS
    return true
  }

  const consume = async ({ own, shared }: Limiters, key: string): Promise<void> => {
    if (shared === undefined || !asksRedis()) {
      await own.consume(key)
      return
    }
    try {
      await shared.consume(key)
      counted()
    } catch (error) {
      if (error instanceof RateLimiterRes) {
        counted()
        throw error
      }
      notCounted(error)
      await own.consume(key)
    }
  }

  return {
    async admit(kind, parts) {
      const rate = options.rates()[kind]
      if (rate === null) return
      try {
        await consume(limitersFor(kind, rate), cacheKey(...parts))
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
    problem: () => (Object.values(options.rates()).some((rate) => rate !== null) ? problem : null),
  }
}
