import type { AuditCheckpoint, AuditRow } from '#foundation/store'
import type { Appended, ChainEntry, ChainEvents, ChainWriter } from '../chains/chain-writer.ts'
import { columnsOf, link, unlinkedText, type Head } from '../format/chain.ts'
import type { Sign } from '../format/signature.ts'
import { WatchedSink, type Watch } from '../sinks/watched-sink.ts'
import { MAX_BATCH_BYTES } from './scan.ts'
import type { WriterConnection } from './writer-connection.ts'

/** Characters of a batch that has more than one record; one takes three bytes at most. */
const MAX_BATCH_TEXT = MAX_BATCH_BYTES / 4

/** What others want to know of a chain, or want of it. */
export interface LastOfChain {
  checkpoint: AuditCheckpoint | undefined
  /** The segment is to be sealed, however small it is. */
  sealWanted: boolean
}

/**
 * A chain in segment files. Its records are linked, hashed and written by the thread at the other end of the
 * connection.
 */
export class SegmentChain implements ChainWriter {
  /** A record is durable before what it allows is written to the database. */
  readonly joinsWrites = false
  readonly watched: WatchedSink
  readonly #watch: Watch
  readonly #connection: WriterConnection
  readonly #events: ChainEvents
  readonly #needsRows: boolean
  readonly #last: LastOfChain

  constructor(
    connection: WriterConnection,
    parts: { readonly watch: Watch; readonly events: ChainEvents; readonly needsRows: boolean },
    last: LastOfChain,
  ) {
    this.#connection = connection
    this.#watch = parts.watch
    this.#events = parts.events
    this.#needsRows = parts.needsRows
    this.#last = last
    this.watched = new WatchedSink('store', parts.watch)
  }

  get head(): Head {
    return this.#connection.state.head
  }
  get stored(): Head {
    return this.head
  }
  get unsigned(): number {
    return Math.max(0, this.head.seq - (this.#last.checkpoint?.seq ?? 0))
  }
  get lastCheckpoint(): number {
    return this.#last.checkpoint?.number ?? 0
  }
  get isDue(): boolean {
    return this.#connection.state.isDue || this.#last.sealWanted
  }

  doubt(): void {
    // Files of this process do not go back under it.
  }

  async settle(): Promise<void> {
    // What a batch came to is always told in the end, see `append`.
  }

  async append(batch: readonly ChainEntry[]): Promise<Appended> {
    const before = this.head
    const first = before.seq + 1
    const [entry] = batch
    if (entry === undefined) return { first, rows: [] }
    let text = ''
    for (const each of batch) text += `${unlinkedText(columnsOf(each), each.detail)}\n`
    if (text.length > MAX_BATCH_TEXT && batch.length > 1) return this.#appendLarge(batch)
    let isLate = false
    const sent = { kind: 'append', text, from: entry.at, to: batch.at(-1)!.at } as const
    await this.watched
      .commit(batch.length, async () => {
        await this.#connection.ask(sent)
        if (isLate) this.#events.landedLate(batch.map((each, at) => ({ seq: first + at, ...columnsOf(each) })))
      })
      .catch((error: unknown) => {
        isLate = true
        throw error
      })
    return { first, rows: this.#needsRows ? linked(before, batch) : [] }
  }

  async addCheckpoint(checkpoint: AuditCheckpoint): Promise<void> {
    await this.#connection.ask({ kind: 'checkpoint', checkpoint })
    this.#last.checkpoint = checkpoint
  }

  async tend(sign: Sign): Promise<void> {
    this.#last.sealWanted = false
    await this.#connection.seal(sign, this.#watch.clock.now())
  }

  async probe(): Promise<void> {
    await this.watched.ask(() => this.#connection.ask({ kind: 'probe', now: this.#watch.clock.now() }))
  }

  /** What is too much for one write goes in two. */
  async #appendLarge(batch: readonly ChainEntry[]): Promise<Appended> {
    const middle = Math.ceil(batch.length / 2)
    const one = await this.append(batch.slice(0, middle))
    try {
      const two = await this.append(batch.slice(middle))
      return { first: one.first, rows: [...one.rows, ...two.rows] }
    } catch (error) {
      this.#events.landedLate(batch.slice(0, middle).map((each, at) => ({ seq: one.first + at, ...columnsOf(each) })))
      throw error
    }
  }
}

/** The rows that the thread has written: the same links, made again. */
const linked = (head: Head, batch: readonly ChainEntry[]): AuditRow[] => {
  let last = head
  return batch.map((entry) => {
    const row = link(last, entry)
    last = row
    return row
  })
}
