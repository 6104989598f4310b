import type { AuditRow, AuditStore } from '#foundation/store'
import type { Head } from '../format/chain.ts'
import { isInChain } from './position.ts'
import type { AuditSink } from './sink.ts'
import { WatchedSink, type Watch } from './watched-sink.ts'

/** Records that a sink gets at once while it catches up. */
const PAGE = 512

/**
 * Brings the records of the store to one other sink, in order and without gaps: after a failure or a start it asks
 * the sink what it has, and gives it what it missed before anything new.
 */
export class Feed {
  readonly #sink: AuditSink
  readonly #store: AuditStore
  readonly #watch: Watch
  readonly #watched: WatchedSink
  #written: number
  /** False when it is not known what the sink has. */
  #sure = false

  constructor(sink: AuditSink, store: AuditStore, head: Head, watch: Watch) {
    this.#sink = sink
    this.#store = store
    this.#watch = sink.deadline === undefined ? watch : { ...watch, deadline: sink.deadline }
    this.#watched = new WatchedSink(sink.name, this.#watch)
    this.#written = head.seq
  }

  get watched(): WatchedSink {
    return this.#watched
  }

  /**
   * The sink has every record up to `head` when it resolves. @param rows the newest ones, up to `head`
   * @throws DeputyError `audit_unavailable`
   */
  async bring(rows: readonly AuditRow[], head: Head): Promise<void> {
    try {
      if (!this.#sure) await this.#compare(head)
      await this.#catchUp(head.seq - rows.length)
      const fresh = rows.filter(({ seq }) => seq > this.#written)
      if (fresh.length > 0) await this.#write(fresh)
      else this.#watched.confirmed()
    } catch (error) {
      this.#sure = false
      throw error
    }
  }

  /** The chain is another one from some record on: what the sink has is compared before anything is added. */
  doubt(): void {
    this.#sure = false
  }

  async close(): Promise<void> {
    await this.#watched.ask(() => this.#sink.close())
  }

  async #write(rows: readonly AuditRow[]): Promise<void> {
    await this.#watched.commit(rows.length, () => this.#sink.write(rows))
    this.#written = rows.at(-1)!.seq
  }

  async #catchUp(until: number): Promise<void> {
    const began = performance.now()
    while (this.#written < until) {
      // A long way behind is not caught up within one request; every try gets further.
      if (performance.now() - began > this.#watch.deadline)
        throw this.#watched.refusal(`it has still to catch up with ${until - this.#written} records`)
      await this.#write(
        await this.#watched.ask(() =>
          this.#store.query({ afterSeq: this.#written }, { limit: Math.min(PAGE, until - this.#written) }),
        ),
      )
    }
  }

  /** A sink that ends with a record which the store does not have there belongs to another chain, or the store was cut. */
  async #compare(head: Head): Promise<void> {
    const last = await this.#watched.ask(async () => this.#sink.head?.())
    if (last !== undefined) {
      const isOurs =
        last.seq === 0 || (last.seq <= head.seq && (await this.#watched.ask(() => isInChain(this.#store, last))))
      if (!isOurs)
        throw this.#watched.refusal(
          `it ends with record ${last.seq}, which the store does not have: the store was cut short or restored, or this is the log of another one; move it away to begin a new one`,
        )
      this.#written = last.seq
    }
    this.#sure = true
  }
}
