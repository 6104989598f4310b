import type { Clock } from '#clock'
import { DeputyError, refuse } from '#errors'
import { within } from '#foundation/async'
import type { Logger, Telemetry } from '#foundation/telemetry'

/** How a sink does. */
export interface SinkStatus {
  readonly name: string
  readonly ok: boolean
  readonly problem: string | null
  readonly lastDurableAt: number | null
}

export interface Watch {
  readonly clock: Clock
  /** ms in which the sink must answer. */
  readonly deadline: number
  readonly telemetry: Telemetry
  readonly logger: Logger
}

/**
 * Watches one sink: each piece of work ends within the deadline, done or refused, and a sink that hangs gets nothing
 * more until what it has is back, so that nothing overtakes it.
 */
export class WatchedSink {
  readonly #watch: Watch
  #status: SinkStatus
  #busy = false

  constructor(name: string, watch: Watch) {
    this.#watch = watch
    this.#status = { name, ok: true, problem: null, lastDurableAt: null }
  }

  get status(): SinkStatus {
    return this.#status
  }
  /** It has something that is not back yet. */
  get busy(): boolean {
    return this.#busy
  }

  /** @throws DeputyError `audit_unavailable`, within the deadline */
  async ask<T>(work: () => Promise<T>): Promise<T> {
    if (this.#busy) throw this.refusal('still busy with an earlier batch')
    this.#busy = true
    const { deadline } = this.#watch
    const done = (async () => work())().finally(() => {
      this.#busy = false
    })
    try {
      return await within(deadline, done, () => new Error(`no answer within ${deadline} ms`))
    } catch (error) {
      throw error instanceof DeputyError && error.code === 'audit_unavailable'
        ? error
        : this.refusal(problemOf(error), error)
    }
  }

  /** As `ask`, and told to the metrics as a commit of so many records. */
  async commit(records: number, work: () => Promise<void>): Promise<void> {
    const began = performance.now()
    const report = (outcome: 'durable' | 'failed'): void => {
      this.#watch.telemetry.audit({
        sink: this.#status.name,
        outcome,
        records,
        seconds: (performance.now() - began) / 1000,
      })
    }
    try {
      await this.ask(work)
    } catch (error) {
      report('failed')
      throw error
    }
    report('durable')
    this.confirmed()
  }

  /** It has all that it should have. */
  confirmed(): void {
    if (!this.#status.ok) this.#watch.logger.info({ sink: this.#status.name }, 'an audit sink confirms records again')
    this.#status = { name: this.#status.name, ok: true, problem: null, lastDurableAt: this.#watch.clock.now() }
  }

  /** Notes that it fails, and why. */
  refusal(problem: string, cause?: unknown): DeputyError {
    const { name, ok, lastDurableAt } = this.#status
    this.#status = { name, ok: false, problem, lastDurableAt }
    if (ok)
      this.#watch.logger.error(
        { sink: name, problem },
        'an audit sink does not confirm records: nothing is issued until it does',
      )
    return refuse('audit_unavailable', { sink: name, problem }, cause)
  }
}

export const problemOf = (error: unknown): string =>
  error instanceof DeputyError
    ? String(error.facts['problem'] ?? error.message)
    : error instanceof Error
      ? error.message
      : String(error)
