import {
  BrokenCircuitError,
  circuitBreaker,
  ConsecutiveBreaker,
  handleWhen,
  type CircuitBreakerPolicy,
} from 'cockatiel'
import { createLru } from '#foundation/lru'
import { DeputyError, refuse } from '#errors'
import { isSilence } from '../silence.ts'

/** Failures in a row after which Deputy pauses its requests, and for how long (ms). */
const MAX_FAILURES = 5
const PAUSE_MS = 5000
/** Paths that are remembered at most. */
const MAX_PATHS = 1000
/** What keeps tokens and leases alive, or ends them, is always tried: it has pauses of its own. */
const ALWAYS = /^(auth\/|sys\/)/

const isUnavailable = (error: unknown): boolean =>
  error instanceof DeputyError && error.code === 'secret_backend_unavailable'

/**
 * Pauses requests after repeated failures: to the server as a whole where it is silent, sealed or not reached, and otherwise to
 * the one path that fails, so that a broken role or a quota of one mount costs no other tenant anything.
 */
export const createVaultBreakers = (id: string) => {
  const make = (counts: (error: unknown) => boolean): CircuitBreakerPolicy =>
    circuitBreaker(handleWhen(counts), { halfOpenAfter: PAUSE_MS, breaker: new ConsecutiveBreaker(MAX_FAILURES) })
  const server = make(isSilence)
  const paths = createLru<string, CircuitBreakerPolicy>({ max: MAX_PATHS })
  const ofPath = (path: string): CircuitBreakerPolicy => {
    const key = path.split('?', 1)[0]!
    let found = paths.get(key)
    if (found === undefined) paths.set(key, (found = make((error) => isUnavailable(error) && !isSilence(error))))
    return found
  }

  /** A failure of one path counts as a success of the server. */
  const atServer = async <T>(work: () => Promise<T>): Promise<T> => {
    const outcome = await server.execute(async () => {
      try {
        return { value: await work() }
      } catch (error) {
        if (isSilence(error)) throw error
        return { error }
      }
    })
    if ('value' in outcome) return outcome.value
    throw outcome.error
  }
  const paused = (error: unknown, whole: boolean): unknown =>
    error instanceof BrokenCircuitError
      ? refuse(
          'secret_backend_unavailable',
          {
            backend: id,
            problem: 'it has failed repeatedly, so Deputy pauses its requests for now',
            ...(whole ? { whole: 'yes' } : {}),
          },
          error,
        )
      : error

  return {
    async execute<T>(path: string, work: () => Promise<T>): Promise<T> {
      if (ALWAYS.test(path)) return await work()
      try {
        return await ofPath(path).execute(async () => {
          try {
            return await atServer(work)
          } catch (error) {
            throw paused(error, true)
          }
        })
      } catch (error) {
        throw paused(error, false)
      }
    },
  }
}
