import type { Cluster, Redis } from 'ioredis'
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes, type RateLimiterAbstract } from 'rate-limiter-flexible'
import type { Rate, Settings } from '../config/settings.ts'
import { refuse, type DeputyError } from '../errors.ts'
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
}

const WORDS: Readonly<Record<RateKind, (parts: readonly string[]) => string>> = {
  server: ([server]) => `the server ${server}`,
  tenant: ([tenant]) => `the tenant ${tenant}`,
  user: ([tenant, user]) => `the user ${user} of ${tenant}`,
  downstream: ([tenant, downstream]) => `${downstream} by ${tenant}`,
  client: ([client]) => `the client ${client}`,
}

/** @param options.redis where nodes count together; while it is away each counts by itself */
export const createRates = (options: {
  readonly rates: () => Settings['rates']
  readonly redis?: Redis | Cluster | undefined
}): Rates => {
  const limiters = new Map<RateKind, { readonly rate: Rate; readonly limiter: RateLimiterAbstract }>()
  const repeated = new WeakSet<DeputyError>()

  const limiterFor = (kind: RateKind, rate: Rate): RateLimiterAbstract => {
    const known = limiters.get(kind)
    if (known?.rate.requests === rate.requests && known.rate.per === rate.per) return known.limiter
    const common = { points: rate.requests, duration: rate.per / 1000, keyPrefix: `deputy:rate:${kind}` }
    const alone = new RateLimiterMemory(common)
    const limiter =
      options.redis === undefined
        ? alone
        : new RateLimiterRedis({
            ...common,
            storeClient: options.redis,
            rejectIfRedisNotReady: true,
            insuranceLimiter: alone,
          })
    limiters.set(kind, { rate, limiter })
    return limiter
  }

  return {
    async admit(kind, parts) {
      const rate = options.rates()[kind]
      if (rate === null) return
      try {
        await limiterFor(kind, rate).consume(cacheKey(...parts))
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
  }
}
