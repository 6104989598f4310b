import type { Clock } from '#clock'
import { within } from '#foundation/async'
import type { AuditRow, AuditStore } from '#foundation/store'
import type { Logger, Telemetry } from '#foundation/telemetry'
import type { Head } from '../format/chain.ts'
import { prevOf } from '../continuity.ts'
import { answeredIn, deliver, DeliveryError, firstBatch, type Delivered, type Delivery } from './delivery.ts'
import type { Pacing } from './pacing.ts'
import type { SinkPosition } from './position.ts'
import { problemOf } from './watched-sink.ts'

/** How long the first record of a batch waits for others (ms). */
const LINGER_MS = 200

/** How long records wait that cannot go yet (ms). */
const CUT_MS = 1000

/** How long the end of the daemon waits for a sink that works to have the last records (ms). */
const CLOSE_MS = 2000

/** How long what was aborted may take to end (ms). */
const ABORT_MS = 200

/** How a sink does that no caller waits for. */
export interface FollowerStatus {
  readonly name: string
  readonly ok: boolean
  /** Deputy's own words. */
  readonly problem: string | null
  /** What the receiver said, for admins alone. */
  readonly answered: string | null
  /** The last record that it has confirmed; null as long as its position is not known. */
  readonly confirmed: number | null
  /** What it does not have yet. */
  readonly lag: { readonly records: number; readonly seconds: number }
  /** Records that the receiver refuses for good, since the daemon began. */
  readonly refused: number
}

export interface FollowerOptions {
  readonly delivery: Delivery
  readonly store: AuditStore
  readonly position: SinkPosition
  readonly pacing: Pacing
  /** ms in which a batch must be confirmed. */
  readonly deadline: number
  /** ms behind at which the sink counts as failing. */
  readonly alertAfter: number
  readonly clock: Clock
  readonly telemetry: Telemetry
  readonly logger: Logger
}

/**
 * A sink that no caller waits for. It reads the store by pages and holds one batch at a time, so that a receiver that
 * is slow, silent or away holds up no record and takes no memory; what it missed it gets in order as soon as it is
 * back.
 */
export class Follower {
  readonly #options: FollowerOptions
  readonly #ended = new AbortController()
  #head: Head | undefined
  #written: Head | undefined
  /** When the oldest record was made that the sink does not have. */
  #oldest: number | undefined
  #problem: string | null = null
  #answered: string | null = null
  #refused = 0
  #pending: Promise<unknown> | undefined
  #wake: () => void = () => undefined
  #running: Promise<void> | undefined
  #closing = false

  constructor(options: FollowerOptions) {
    this.#options = options
  }

  /** The store has every record up to `head`. The first call starts the sink. */
  appended(head: Head): void {
    const { clock } = this.#options
    if (this.#written === undefined || this.#written.seq === this.#head?.seq) this.#oldest ??= clock.now()
    this.#head = head
    if (this.#written !== undefined && this.#written.seq >= head.seq) this.#oldest = undefined
    this.#running ??= this.#run()
    this.#wake()
  }

  status(): FollowerStatus {
    const { delivery, alertAfter } = this.#options
    const lag = this.#lag()
    const late = lag.seconds * 1000 > alertAfter ? `it is ${lag.records} records and ${lag.seconds} s behind` : null
    const refused = this.#refused === 0 ? null : `its receiver refused ${this.#refused} records for good`
    const problem = [this.#problem, late, refused].filter((each) => each !== null).join('; ')
    return {
      name: delivery.name,
      ok: problem === '',
      problem: problem === '' ? null : problem,
      answered: this.#answered,
      confirmed: this.#written?.seq ?? null,
      lag,
      refused: this.#refused,
    }
  }

  /** Gives a receiver that works a moment to have the last records. */
  async close(): Promise<void> {
    const { delivery, position } = this.#options
    this.#closing = true
    this.#wake()
    const isOver = async (ms: number): Promise<void> => {
      await within(ms, this.#running ?? Promise.resolve(), () => new Error('late')).catch(() => undefined)
    }
    if (this.#problem === null) await isOver(CLOSE_MS)
    this.#ended.abort()
    // What hangs does not hold up the end.
    await isOver(ABORT_MS)
    await position.flush()
    await within(CLOSE_MS, delivery.close(), () => new Error('it does not close'))
  }

  #lag(): { records: number; seconds: number } {
    const records = Math.max(0, (this.#head?.seq ?? 0) - (this.#written?.seq ?? 0))
    const age = records === 0 || this.#oldest === undefined ? 0 : this.#options.clock.now() - this.#oldest
    return { records, seconds: Math.max(0, Math.round(age / 100) / 10) }
  }

  async #run(): Promise<void> {
    while (!this.#ended.signal.aborted) {
      try {
        this.#written ??= await this.#options.position.begin()
        if (this.#lag().records === 0) {
          this.#oldest = undefined
          this.#confirmed()
          if (this.#closing) return
          await this.#pause(() => this.#lag().records > 0)
        }
        await this.#linger()
        if (await this.#step(this.#written)) continue
        if (this.#closing) return
        await this.#pause(() => false, CUT_MS)
      } catch (error) {
        this.#failed(error)
        if (this.#closing) return
        await this.#pause(() => false, this.#options.pacing.wait)
      }
    }
  }

  /** A batch that is not full waits for others, counted from its oldest record. */
  async #linger(): Promise<void> {
    const { limits, linger = LINGER_MS } = this.#options.delivery
    const now = this.#options.clock.now()
    const left = Math.min(linger, linger - (now - (this.#oldest ?? now)))
    if (left > 0) await this.#pause(() => this.#lag().records >= limits.records, left)
  }

  /**
   * One batch. @returns false where nothing can go now
   * @throws where the receiver or the store does not answer, or the chain is another one than before
   */
  async #step(from: Head): Promise<boolean> {
    const { store, delivery, pacing } = this.#options
    if (this.#pending !== undefined) throw new Error('still busy with an earlier batch')
    const page = await store.query({ afterSeq: from.seq }, { limit: delivery.limits.records + 1 })
    const [first] = page
    if (first === undefined || first.seq !== from.seq + 1 || (from.hash !== '' && prevOf(first) !== from.hash)) {
      this.#written = undefined
      // It says what is wrong, or where the chain begins since retention removed records.
      this.#written = await this.#options.position.begin()
      if (this.#written.seq === from.seq) throw new Error('the store does not give the records after its position')
      return true
    }
    this.#oldest = first.at
    const whole = firstBatch(page, delivery.limits)
    const rows = (await delivery.cut?.(whole, page.length > whole.length)) ?? whole
    if (rows.length === 0) return false
    await this.#send(rows)
    pacing.succeeded()
    this.#oldest = page[rows.length]?.at ?? this.#options.clock.now()
    this.#confirmed()
    return true
  }

  async #send(rows: readonly AuditRow[]): Promise<void> {
    const { delivery, deadline } = this.#options
    const began = performance.now()
    const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(deadline)])
    const sending = deliver(delivery, rows, signal, (row) => {
      this.#written = { seq: row.seq, hash: row.hash }
      this.#options.position.confirm(this.#written)
    }).finally(() => {
      this.#pending = undefined
    })
    this.#pending = sending
    this.#report(rows, await within(deadline, sending, () => new Error(`no answer within ${deadline} ms`)), began)
  }

  #report(rows: readonly AuditRow[], { refused, rejected, problem }: Delivered, began: number): void {
    const { telemetry, delivery, logger } = this.#options
    const lost = refused.length + rejected
    const fact = { sink: delivery.name, seconds: (performance.now() - began) / 1000 }
    telemetry.audit({ ...fact, outcome: 'durable', records: rows.length - lost })
    if (lost === 0) return
    this.#refused += lost
    telemetry.audit({ ...fact, outcome: 'refused', records: lost })
    logger.error(
      { sink: delivery.name, records: refused.map(({ seq }) => seq), rejected, problem },
      'the receiver of an audit sink refuses records for good; they are in the store, and the sink goes on after them',
    )
  }

  #confirmed(): void {
    if (this.#problem !== null)
      this.#options.logger.info({ sink: this.#options.delivery.name }, 'an audit sink confirms records again')
    this.#problem = null
    this.#answered = null
  }

  #failed(error: unknown): void {
    const { delivery, pacing, telemetry, logger } = this.#options
    const problem = problemOf(error)
    const answered = answeredIn(error)
    pacing.failed(error instanceof DeliveryError ? error.retryAfter : undefined)
    telemetry.audit({ sink: delivery.name, outcome: 'failed', records: 0, seconds: 0 })
    if (this.#problem === null && !this.#ended.signal.aborted)
      logger.error(
        { sink: delivery.name, problem, ...(answered === undefined ? {} : { answered }) },
        'an audit sink does not confirm records: they follow in order when it does',
      )
    this.#problem = problem
    this.#answered = answered ?? null
  }

  /**
   * Until `isOver`, which is asked when something was appended; at most for `ms`, and never beyond the end of the
   * daemon.
   */
  async #pause(isOver: () => boolean, ms?: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = ms === undefined ? undefined : setTimeout(resolve, ms)
    timer?.unref()
    this.#wake = () => {
      if (this.#closing || isOver()) resolve()
    }
    this.#wake()
    await promise
    this.#wake = () => undefined
    clearTimeout(timer)
  }
}
