import { within } from '#foundation/async'
import type { AuditRow } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { Head } from '../format/chain.ts'
import { answeredIn, deliver, DeliveryError, type Delivery } from './delivery.ts'
import type { Pacing } from './pacing.ts'
import type { SinkPosition } from './position.ts'
import type { AuditSink } from './sink.ts'

/** A sink that callers wait for, over a receiver elsewhere. What it has is known by its position in the store. */
export class PositionedSink implements AuditSink {
  readonly name: string
  readonly deadline: number
  readonly #options: PositionedSinkOptions
  #problem = ''

  constructor(options: PositionedSinkOptions) {
    this.name = options.delivery.name
    this.deadline = options.deadline
    this.#options = options
  }

  head(): Promise<Head> {
    return this.#options.position.begin()
  }

  /**
   * @throws Error; where the receiver refuses some records for good, those count as refused, and the next batch goes on
   * after them
   */
  async write(rows: readonly AuditRow[]): Promise<void> {
    const { delivery, position, pacing, deadline, logger } = this.#options
    // A receiver that has just failed is left alone: a caller learns that at once instead of after the deadline.
    if (pacing.wait > 0) throw new Error(`${this.#problem}; it is asked again in ${Math.ceil(pacing.wait)} ms`)
    try {
      const { refused, rejected, problem } = await deliver(delivery, rows, AbortSignal.timeout(deadline), (row) => {
        position.confirm(row)
      })
      pacing.succeeded()
      this.#problem = ''
      if (refused.length + rejected === 0) return
      logger.error(
        { sink: delivery.name, records: refused.map(({ seq }) => seq), rejected, problem },
        'the receiver of an audit sink refuses records for good; their callers were refused',
      )
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error)
      const answered = answeredIn(error)
      // Callers get the problem; what the receiver said is for admins.
      if (problem !== this.#problem && answered !== undefined)
        logger.warn({ sink: delivery.name, problem, answered }, 'the receiver of an audit sink confirms no records')
      this.#problem = problem
      pacing.failed(error instanceof DeliveryError ? error.retryAfter : undefined)
      throw error
    }
    throw new Error('the receiver refuses a record of the batch for good')
  }

  async close(): Promise<void> {
    await this.#options.position.flush()
    await within(CLOSE_MS, this.#options.delivery.close(), () => new Error('it does not close'))
  }
}

/** ms that a receiver may take to take leave. */
const CLOSE_MS = 2000

export interface PositionedSinkOptions {
  readonly delivery: Delivery
  readonly position: SinkPosition
  readonly pacing: Pacing
  /** ms. */
  readonly deadline: number
  readonly logger: Logger
}
