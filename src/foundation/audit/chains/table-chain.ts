import { DeputyError } from '#errors'
import type { AuditCheckpoint, AuditRow, AuditStore } from '#foundation/store'
import { compareChain, gapText, RecentRows, toEntry, writeRowsAgain, type LostRecords } from '../continuity.ts'
import { emptyChain, link, type ChainName, type Head } from '../format/chain.ts'
import { WatchedSink, type Watch } from '../sinks/watched-sink.ts'
import type { Appended, ChainEntry, ChainEvents, ChainWriter } from './chain-writer.ts'

/** Of a store that can lose what it has confirmed. */
export interface Losses {
  /** Bytes of the last records that are kept in memory, about. */
  readonly keep: number
  /** Proves that this installation wrote a text. */
  readonly prove: (text: string) => string
  /** Correlation ids. */
  readonly newId: () => string
  readonly noticed: (lost: LostRecords) => void
}

export interface TableChainOptions extends Watch {
  readonly store: AuditStore
  readonly installation: string
  readonly losses?: Losses
}

const isConflict = (error: unknown): boolean =>
  error instanceof DeputyError && error.cause instanceof DeputyError && error.cause.code === 'conflict'

/** A chain in the tables of a store, which others may write as well, and which may lose what it has confirmed. */
export class TableChain implements ChainWriter {
  readonly #options: TableChainOptions
  readonly #events: ChainEvents
  readonly #chain: ChainName
  readonly watched: WatchedSink
  #head: Head
  /** What the store's chain ends with: `#head`, but where records are gone for good. */
  #stored: Head
  readonly #recent: RecentRows
  /** What the store did not confirm: it may have it nevertheless, so its chain is compared before the next batch. */
  #doubtful: readonly AuditRow[] | undefined
  #unsigned: number
  #lastCheckpoint: number
  readonly isDue = false

  private constructor(
    options: TableChainOptions,
    events: ChainEvents,
    head: Head,
    last: Pick<AuditCheckpoint, 'seq' | 'number'>,
  ) {
    this.#options = options
    this.#events = events
    this.#chain = { installation: options.installation, node: options.store.node }
    this.watched = new WatchedSink('store', options)
    this.#head = head
    this.#stored = head
    this.#recent = new RecentRows(options.losses?.keep ?? 0)
    this.#unsigned = Math.max(0, head.seq - last.seq)
    this.#lastCheckpoint = last.number ?? 0
  }

  /** Goes on with the chain where the store has it. @throws DeputyError `store_unavailable` */
  static async open(options: TableChainOptions, events: ChainEvents): Promise<TableChain> {
    const { store, installation, logger } = options
    const head = (await store.head()) ?? emptyChain({ installation, node: store.node })
    const last = (await store.lastCheckpoint()) ?? { seq: 0, number: null }
    if (last.seq > head.seq)
      logger.error(
        { signed: last.seq, last: head.seq },
        'the audit log ends before its last checkpoint: records were removed; run deputy audit verify',
      )
    return new TableChain(options, events, head, last)
  }

  get joinsWrites(): boolean {
    return this.#options.store.joinsWrites
  }
  get head(): Head {
    return this.#head
  }
  get stored(): Head {
    return this.#stored
  }
  get unsigned(): number {
    return this.#unsigned
  }
  get lastCheckpoint(): number {
    return this.#lastCheckpoint
  }

  doubt(): void {
    this.#doubtful ??= []
  }

  async settle(): Promise<void> {
    if (this.#doubtful !== undefined) await this.#settle(this.#doubtful)
  }

  async append(batch: readonly ChainEntry[]): Promise<Appended> {
    const writes = batch.flatMap((entry) => entry.writes)
    for (let tries = 0; ; tries += 1) {
      let head = this.#head
      const rows = batch.map((entry) => {
        const row = link(head, entry)
        head = row
        return row
      })
      const first = this.#head.seq + 1
      if (rows.length === 0) return { first, rows }
      try {
        await this.watched.commit(rows.length, () => this.#options.store.append(rows, this.#stored, writes))
      } catch (error) {
        this.#doubtful = rows
        // It ends otherwise than it did: what is so is found out, and the batch is linked to that.
        if (!isConflict(error) || tries > 0) throw error
        if ((await this.#settle(rows)).length > 0) throw error
        continue
      }
      this.#setHead(rows)
      return { first, rows }
    }
  }

  async addCheckpoint(checkpoint: AuditCheckpoint): Promise<void> {
    await this.#options.store.addCheckpoint(checkpoint)
    this.#recent.addCheckpoint(checkpoint)
    this.#lastCheckpoint = checkpoint.number ?? this.#lastCheckpoint
    this.#unsigned = 0
  }

  async tend(): Promise<void> {
    // Tables have nothing else to sign.
  }

  #setHead(rows: readonly AuditRow[]): void {
    const { seq, hash } = rows.at(-1)!
    this.#head = { seq, hash }
    this.#stored = this.#head
    this.#unsigned += rows.length
    this.#recent.add(rows)
  }

  /**
   * Finds out what the store has of the rows in doubt, and of all before them. @returns the rows in doubt that it has
   */
  async #settle(doubtful: readonly AuditRow[]): Promise<readonly AuditRow[]> {
    const { store } = this.#options
    const head = this.#head
    // Where records are gone for good the chain ends before them until the next one is written.
    const known = { head: this.#stored.seq < head.seq ? this.#stored : head, genesis: emptyChain(this.#chain) }
    const found = await this.watched.ask(() => compareChain(store, known, doubtful, this.#recent.rows))
    const landed = 'landed' in found ? found.landed : []
    if (found.kind === 'whole' && landed.length > 0) this.#setHead(landed)
    if (found.kind === 'followed') {
      this.#unsigned += found.stored.seq - head.seq
      this.#head = found.stored
      this.#stored = found.stored
      this.#recent.clear()
    }
    if (found.kind === 'followed' || found.kind === 'forked')
      this.#lastCheckpoint = (await this.watched.ask(() => store.lastCheckpoint()))?.number ?? 0
    if (found.kind === 'lost') await this.#writeAgain(found.stored)
    if (found.kind === 'forked') this.#goOnAfter(found.stored, found.missing)
    this.#doubtful = undefined
    this.#events.landedLate(landed)
    return landed
  }

  /** The very records that the store has lost, as far as they are in memory. */
  async #writeAgain(stored: Head): Promise<void> {
    const [head, { store }] = [this.#head, this.#options]
    const kept = this.#recent.rows
    const { count, gone, last } = await this.watched.ask(() => writeRowsAgain(store, { stored, head, kept }))
    for (const checkpoint of this.#recent.checkpoints) await this.watched.ask(() => store.addCheckpoint(checkpoint))
    this.#stored = last
    this.#noteLoss({ stored, confirmed: head, writtenAgain: count, gone, forked: false })
  }

  /** The store has records of another process in the place of ours: ours are written after them. */
  #goOnAfter(stored: Head, missing: readonly AuditRow[]): void {
    const confirmed = this.#head
    this.#head = stored
    this.#stored = stored
    this.#recent.clear()
    this.#events.doubtFeeds()
    for (const row of missing) this.#events.enqueue(toEntry(row))
    this.#noteLoss({ stored, confirmed, writtenAgain: missing.length, gone: null, forked: true })
  }

  #noteLoss(lost: LostRecords): void {
    const { losses, logger, store } = this.#options
    logger.error(
      { ...lost },
      'the store has lost audit records that it had confirmed; what is still in memory is written again',
    )
    const proof = lost.gone === null ? undefined : losses?.prove(gapText(store.node, lost.gone))
    this.#events.enqueue({
      record: { id: losses?.newId() ?? 'store.lost', event: 'store.lost', outcome: 'failed' },
      detail: JSON.stringify({ records: { ...lost, ...(proof === undefined ? {} : { proof }) } }),
      at: this.#options.clock.now(),
    })
    losses?.noticed(lost)
  }
}
