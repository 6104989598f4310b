import {
  BrokenCircuitError,
  circuitBreaker,
  CircuitState,
  ConsecutiveBreaker,
  ExponentialBackoff,
  handleWhen,
  retry,
  wrap,
  type CircuitBreakerPolicy,
  type IPolicy,
} from 'cockatiel'
import type { Clock } from '#clock'
import { refuse } from '#errors'
import { createLru } from '#foundation/lru'
import type { SharedBytes } from '#foundation/redis'
import type { Telemetry } from '#foundation/telemetry'
import { failureOf, isGatewayWithoutServer, isOwnRefusal, MAX_WAIT_MS, retryAfterOf } from './failure.ts'

/** Failures in a row after which the circuit of a provider opens, and for how long (ms). */
const MAX_FAILURES = 5
const OPEN_MS = 10_000
/** A provider that asks for a wait of at most this time is asked again within the same request (ms). */
const SHORT_WAIT_MS = 1000
const MAX_REMEMBERED = 10_000

/** A provider that Deputy does not call for a tenant at the moment, and why. Times are ms since the epoch. */
export interface ProviderTrouble {
  readonly provider: string
  readonly tenant: string
  readonly state: 'open' | 'half_open' | 'asked_to_wait'
  readonly until: number | null
}

/** Where nodes share which providers rate-limit Deputy. */
export type SharedRests = Pick<SharedBytes, 'get' | 'set'>

/** The request that is made. */
interface Called {
  readonly provider: string
  readonly tenant: string
  readonly operation: string
}

const keyOf = ({ provider, tenant }: Pick<Called, 'provider' | 'tenant'>): string => `${provider} ${tenant}`
const namesIn = (key: string): Pick<Called, 'provider' | 'tenant'> => {
  const at = key.indexOf(' ')
  return { provider: key.slice(0, at), tenant: key.slice(at + 1) }
}

interface Circuit {
  readonly policy: IPolicy
  readonly breaker: CircuitBreakerPolicy
  openedAt: number | undefined
}

/** One circuit breaker, with retries, for each provider and tenant (https://www.npmjs.com/package/cockatiel). */
class Circuits {
  readonly #clock: Clock
  readonly #known = createLru<string, Circuit>({ max: MAX_REMEMBERED })

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** @throws BrokenCircuitError while the circuit is open, and what `work` throws */
  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    let circuit = this.#known.get(key)
    if (circuit === undefined) this.#known.set(key, (circuit = this.#create()))
    return circuit.policy.execute(work)
  }

  troubles(): ProviderTrouble[] {
    return [...this.#known]
      .filter(([, { breaker }]) => breaker.state === CircuitState.Open || breaker.state === CircuitState.HalfOpen)
      .map(([key, { breaker, openedAt }]) => ({
        ...namesIn(key),
        state: breaker.state === CircuitState.Open ? 'open' : 'half_open',
        until: openedAt === undefined ? null : openedAt + OPEN_MS,
      }))
  }

  #create(): Circuit {
    const breaker = circuitBreaker(
      handleWhen((error) => ['lost', 'not_sent'].includes(failureOf(error)) && !isOwnRefusal(error)),
      { halfOpenAfter: OPEN_MS, breaker: new ConsecutiveBreaker(MAX_FAILURES) },
    )
    const again = retry(
      handleWhen((error) => !(error instanceof BrokenCircuitError) && this.#mayRetry(error)),
      { maxAttempts: 2, backoff: new ExponentialBackoff({ initialDelay: 100, maxDelay: 1000 }) },
    )
    const circuit: Circuit = { policy: wrap(again, breaker), breaker, openedAt: undefined }
    breaker.onBreak(() => {
      circuit.openedAt = this.#clock.now()
    })
    return circuit
  }

  /** Only a request that the provider cannot have acted on is sent again. */
  #mayRetry(error: unknown): boolean {
    return (
      failureOf(error) === 'not_sent' &&
      !isOwnRefusal(error) &&
      !isGatewayWithoutServer(error) &&
      (retryAfterOf(error, this.#clock.now()) ?? 0) <= SHORT_WAIT_MS
    )
  }
}

/** Providers that rate-limit Deputy, with the end of the wait that each has asked for, on every node. */
class RequestedWaits {
  readonly #clock: Clock
  readonly #shared: SharedRests | undefined
  readonly #own = createLru<string, number>({ max: MAX_REMEMBERED })

  constructor(clock: Clock, shared: SharedRests | undefined) {
    this.#clock = clock
    this.#shared = shared
  }

  /** @throws DeputyError `provider_busy` */
  async assertOver(called: Called): Promise<void> {
    const left = (await this.#until(keyOf(called))) - this.#clock.now()
    if (left > 0) throw refuse('provider_busy', { provider: called.provider, seconds: Math.ceil(left / 1000) })
  }

  /** Notes the wait that an error's answer asks for, if it does. */
  async note(called: Called, error: unknown): Promise<void> {
    const wait = retryAfterOf(error, this.#clock.now())
    if (wait === undefined || wait <= SHORT_WAIT_MS) return
    const key = keyOf(called)
    this.#own.set(key, this.#clock.now() + wait)
    await this.#shared?.set('rest', key, Buffer.from(String(this.#clock.now() + wait)), wait)
  }

  troubles(): ProviderTrouble[] {
    return [...this.#own]
      .filter(([, until]) => until > this.#clock.now())
      .map(([key, until]) => ({ ...namesIn(key), state: 'asked_to_wait', until }))
  }

  /** The end of the wait that the provider has asked this node or another for; 0: none. */
  async #until(key: string): Promise<number> {
    const own = this.#own.get(key) ?? 0
    if (own > this.#clock.now()) return own
    const shared = Number(Buffer.from((await this.#shared?.get('rest', key)) ?? []).toString('utf8'))
    return Number.isFinite(shared) ? Math.min(shared, this.#clock.now() + MAX_WAIT_MS) : 0
  }
}

/** Sends a request to a provider. @throws DeputyError `provider_circuit_open`, `provider_busy`, or what `work` throws */
export type CallProvider = <T>(called: Called, work: () => Promise<T>) => Promise<T>

/** `CallProvider`, with the providers that are not called at the moment, as this node knows them. */
export type ProviderCalls = CallProvider & { troubles(): ProviderTrouble[] }

/**
 * Requests to providers: a request that the provider cannot have acted on is sent again, with growing pauses. A provider that
 * fails again and again for a tenant is not called for a while, nor is one that asks for a wait, on every node.
 */
export const createProviderCalls = (options: {
  telemetry: Telemetry
  clock: Clock
  shared?: SharedRests | undefined
}): ProviderCalls => {
  const { telemetry, clock } = options
  const circuits = new Circuits(clock)
  const waits = new RequestedWaits(clock, options.shared)
  const call: CallProvider = async (called, work) => {
    const { provider, operation } = called
    await waits.assertOver(called)
    const began = performance.now()
    const report = (outcome: 'ok' | 'error'): void => {
      telemetry.provider({ provider, operation, outcome, seconds: (performance.now() - began) / 1000 })
    }
    try {
      const result = await telemetry.span(`deputy.provider.${operation}`, { 'deputy.provider': provider }, () =>
        circuits.run(keyOf(called), work),
      )
      report('ok')
      return result
    } catch (error) {
      report('error')
      if (error instanceof BrokenCircuitError)
        throw refuse('provider_circuit_open', { provider, seconds: OPEN_MS / 1000 }, error)
      await waits.note(called, error)
      throw error
    }
  }
  return Object.assign(call, { troubles: () => [...circuits.troubles(), ...waits.troubles()] })
}
