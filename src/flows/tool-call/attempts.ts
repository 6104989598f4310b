import { setTimeout as sleep } from 'node:timers/promises'
import {
  BrokenCircuitError,
  circuitBreaker,
  ConsecutiveBreaker,
  handleWhen,
  type CircuitBreakerPolicy,
} from 'cockatiel'
import { DeputyError, refuse } from '#errors'
import { type CollectedAnswer, each } from '#flows/injected-request'
import { createLru } from '#foundation/lru'
import { readRetryAfter } from '#foundation/outbound'

/** Failures in a row after which an API gets no more requests of a tenant, and for how long (ms). */
const MAX_FAILURES = 5
const OPEN_MS = 10_000
const MAX_CIRCUITS = 10_000
/** Attempts of a request that may be sent again. */
const MAX_ATTEMPTS = 3
const FIRST_PAUSE_MS = 100
/** Deputy does not wait longer than this; the answer names the wait to the caller (ms). */
const MAX_PAUSE_MS = 5000

/**
 * Answers of a service that has not handled the request, or may not have (RFC 9110 section 15.6, RFC 6585 section 4).
 */
const AGAIN = new Set([429, 502, 503, 504])

/** An answer that counts as a failure of the API. It is an answer for the caller all the same. */
class FailedAnswer extends Error {
  readonly answer: CollectedAnswer
  constructor(answer: CollectedAnswer) {
    super('the API failed')
    this.answer = answer
  }
}

const isFailure = (error: unknown): boolean =>
  error instanceof FailedAnswer ||
  (error instanceof DeputyError && (error.code === 'upstream_unreachable' || error.code === 'upstream_timeout'))

/** What the circuit counts: a call whose time is over says of its API what a connection without an answer says. */
const opensCircuit = (error: unknown): boolean =>
  isFailure(error) || (error instanceof DeputyError && error.code === 'api_timeout')

/** The wait that an answer asks for (ms). */
const waitAskedBy = ({ headers }: CollectedAnswer, now: number): number | undefined =>
  readRetryAfter([...each(headers)].find(([lower]) => lower === 'retry-after')?.[2], now)

/** The result of some work, or the reason of the signal if that comes first. */
const untilAborted = async <T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> => {
  signal.throwIfAborted()
  const { promise, reject } = Promise.withResolvers<never>()
  const onAbort = (): void => {
    reject(signal.reason as Error)
  }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([work(), promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

export interface AttemptOptions {
  /** Of the breaker: the API and the tenant. */
  readonly key: string
  /** For the sentence of a refusal. */
  readonly host: string
  /** Whether the request may be sent again. */
  readonly idempotent: boolean
  readonly signal: AbortSignal
}

/** Sends requests, again where that is safe, and not at all while the API fails. */
export interface Attempts {
  /** @throws DeputyError `api_resting`, and what `send` throws */
  run(send: () => Promise<CollectedAnswer>, options: AttemptOptions): Promise<CollectedAnswer>
}

/** @param deps.chance a number from 0 to 1, which spreads the attempts of many callers */
export const createAttempts = (deps: { readonly now: () => number; readonly chance: () => number }): Attempts => {
  const circuits = createLru<string, CircuitBreakerPolicy>({ max: MAX_CIRCUITS })
  const circuitOf = (key: string): CircuitBreakerPolicy => {
    let found = circuits.get(key)
    if (found === undefined)
      circuits.set(
        key,
        (found = circuitBreaker(handleWhen(opensCircuit), {
          halfOpenAfter: OPEN_MS,
          breaker: new ConsecutiveBreaker(MAX_FAILURES),
        })),
      )
    return found
  }

  const once = async (
    send: () => Promise<CollectedAnswer>,
    { key, host, signal }: AttemptOptions,
  ): Promise<CollectedAnswer> => {
    const circuit = circuitOf(key)
    try {
      // After a pause one call tries the API and the others wait for it, with times of their own.
      return await untilAborted(signal, () =>
        circuit.execute(async () => {
          signal.throwIfAborted()
          const answer = await send()
          // An API that asks for a pause is in order; its wait is that of this caller.
          if (answer.status >= 502 && AGAIN.has(answer.status)) throw new FailedAnswer(answer)
          return answer
        }),
      )
    } catch (error) {
      if (error instanceof FailedAnswer) return error.answer
      if (error instanceof BrokenCircuitError) throw refuse('api_resting', { host, seconds: OPEN_MS / 1000 }, error)
      throw error
    }
  }

  /** How long to wait before the next attempt (ms); undefined: there is none. */
  const pauseAfter = (outcome: CollectedAnswer | DeputyError, attempt: number): number | undefined => {
    if (outcome instanceof DeputyError) {
      if (!isFailure(outcome)) return undefined
    } else if (!AGAIN.has(outcome.status)) return undefined
    const backoff = FIRST_PAUSE_MS * 2 ** (attempt - 1) * (0.5 + deps.chance())
    const asked = outcome instanceof DeputyError ? undefined : waitAskedBy(outcome, deps.now())
    const pause = Math.max(asked ?? 0, backoff)
    return pause > MAX_PAUSE_MS ? undefined : pause
  }

  return {
    async run(send, options) {
      for (let attempt = 1; ; attempt += 1) {
        const outcome = await once(send, options).catch((error: unknown) => {
          if (error instanceof DeputyError) return error
          throw error
        })
        const pause = options.idempotent && attempt < MAX_ATTEMPTS ? pauseAfter(outcome, attempt) : undefined
        if (pause === undefined) {
          if (outcome instanceof DeputyError) throw outcome
          return outcome
        }
        await sleep(pause, undefined, { signal: options.signal })
      }
    },
  }
}
