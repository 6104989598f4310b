import { DeputyError, refuse } from '#errors'
import type { AuditCheckpoint, AuditRow, AuditStore, StoreWrite } from '#foundation/store'
import { emptyChain, link, type ChainName, type Entry, type Head } from './format/chain.ts'
import { checkpointBytes } from './format/checkpoint.ts'
import { compareChain, gapText, RecentRows, toEntry, writeRowsAgain, type LostRecords } from './continuity.ts'
import { Feed } from './sinks/feed.ts'
import { OwedRecords } from './owed.ts'
import type { AuditLog, AuditRecord } from './record.ts'
import type { AuditSink } from './sinks/sink.ts'
import type { KnownHead } from './verify/walk.ts'
import { problemOf, WatchedSink, type SinkStatus, type Watch } from './sinks/watched-sink.ts'

export interface AuditLogOptions extends Watch {
  readonly store: AuditStore
  readonly sinks: readonly AuditSink[]
  /** Names the installation, see `ChainName`. */
  readonly installation: string
  /** A checkpoint is signed after so many records, */
  readonly checkpointEvery: number
  /** and so long after the first record that it covers (ms). */
  readonly checkpointWithin: number
  /** The store has every record up to this one; called at the start as well. */
  readonly appended?: (head: Head) => void
  readonly sign: (bytes: Uint8Array) => { kid: string; signature: Buffer }
  /** Hears of each checkpoint that is durable. */
  readonly signed?: (checkpoint: AuditCheckpoint) => void
  /** Of a store that can lose what it has confirmed. */
  readonly losses?: {
    /** Bytes of the last records that are kept in memory, about. */
    readonly keep: number
    /** Proves that this installation wrote a text. */
    readonly prove: (text: string) => string
    /** Correlation ids. */
    readonly newId: () => string
    readonly noticed: (lost: LostRecords) => void
  }
}

interface Waiting extends Entry {
  /** What the record allows, for the same transaction. */
  readonly writes: readonly StoreWrite[]
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
  readonly since: number
  /** Its time is over: the caller has been refused. */
  over: boolean
}

const isConflict = (error: unknown): boolean =>
  error instanceof DeputyError && error.cause instanceof DeputyError && error.cause.code === 'conflict'

/** Records in one commit at most, so that a flood is not one endless transaction. */
const BATCH = 512

/**
 * The audit log: group commit of hash-chained records into the store, then into the other sinks. A record waits at
 * most for the batch under way. Whatever any sink does not confirm within its deadline has not been recorded, and
 * who asked is told so (promise 3), at the latest after twice that deadline: one batch under way and its own (threat 29).
 *
 * The store may have a record that another sink did not confirm, or that it confirmed too late. Such a record says
 * more than happened, so as soon as the sinks are back an `audit.unconfirmed` record of the same id says so.
 */
export class DurableAuditLog implements AuditLog {
  readonly #options: AuditLogOptions
  readonly #store: WatchedSink
  readonly #signer: WatchedSink
  readonly #feeds: readonly Feed[]
  #head: Head
  /** What the store's chain ends with: `#head`, but where records are gone for good. */
  #stored: Head
  readonly #recent: RecentRows
  #waiting: Waiting[] = []
  #underWay: readonly Waiting[] = []
  #guard: NodeJS.Timeout | undefined
  #committing: Promise<void> | undefined
  /** What the store did not confirm: it may have it nevertheless, so its chain is compared before the next batch. */
  #doubtful: readonly AuditRow[] | undefined
  #comparing: { readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = []
  readonly #owed = new OwedRecords()
  #sinceCheckpoint: number
  #lastCheckpoint: number
  #due: NodeJS.Timeout | undefined
  #isDue = false
  readonly #chain: ChainName
  #retry: NodeJS.Timeout | undefined
  #closed = false

  private constructor(options: AuditLogOptions, head: Head, last: Pick<AuditCheckpoint, 'seq' | 'number'>) {
    this.#options = options
    this.#chain = { installation: options.installation, node: options.store.node }
    this.#head = head
    this.#stored = head
    this.#recent = new RecentRows(options.losses?.keep ?? 0)
    this.#sinceCheckpoint = Math.max(0, head.seq - last.seq)
    this.#lastCheckpoint = last.number ?? 0
    this.#store = new WatchedSink('store', options)
    this.#signer = new WatchedSink('checkpoint', options)
    this.#feeds = options.sinks.map((sink) => new Feed(sink, options.store, head, options))
    options.appended?.(head)
  }

  /** Goes on with the chain where the store has it. @throws DeputyError `store_unavailable` */
  static async open(options: AuditLogOptions): Promise<DurableAuditLog> {
    const { store } = options
    const head = (await store.head()) ?? emptyChain({ installation: options.installation, node: store.node })
    const last = (await store.lastCheckpoint()) ?? { seq: 0, number: null }
    if (last.seq > head.seq)
      options.logger.error(
        { signed: last.seq, last: head.seq },
        'the audit log ends before its last checkpoint: records were removed; run deputy audit verify',
      )
    return new DurableAuditLog(options, head, last)
  }

  /** @throws DeputyError `audit_unavailable` with the sink and its problem; `internal` for a detail that is no JSON */
  async append(record: AuditRecord, writes: readonly StoreWrite[] = []): Promise<void> {
    // Where another sink can still refuse the record, what it allows has to wait for that one.
    const joins = this.#options.store.joinsWrites && this.#feeds.length === 0
    await this.#record(record, joins ? writes : [])
    if (!joins && writes.length > 0) await this.#options.store.apply(writes)
  }

  #record(record: AuditRecord, writes: readonly StoreWrite[]): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(refuse('audit_unavailable', { sink: 'store', problem: 'the audit log is closed' }))
        return
      }
      // Here, not in the batch: a record that cannot be written must not take others with it.
      let detail: string
      try {
        detail = JSON.stringify(record.detail)
      } catch (error) {
        reject(refuse('internal', {}, error))
        return
      }
      this.#waiting.push({
        record,
        detail,
        writes,
        at: this.#options.clock.now(),
        since: performance.now(),
        over: false,
        resolve,
        reject,
      })
      this.#committing ??= this.#commitAll()
      this.#guard ??= setTimeout(() => {
        this.#refuseLate()
      }, 2 * this.#options.deadline)
    })
  }

  /** The store, every other sink, and the signer of checkpoints while it fails. */
  status(): SinkStatus[] {
    const sinks = [this.#store.status, ...this.#feeds.map(({ watched }) => watched.status)]
    return this.#signer.status.ok ? sinks : [...sinks, this.#signer.status]
  }

  /**
   * Compares the store's chain with what is known of it; what it has lost is written again and recorded.
   * @throws DeputyError `audit_unavailable`
   */
  async compare(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#comparing.push({ resolve, reject })
    this.#committing ??= this.#commitAll()
    await promise
  }

  /** Where the own chain ends, as this process knows it. */
  get head(): KnownHead {
    const { installation, node } = this.#chain
    return { installation, node, source: 'this daemon', number: this.#lastCheckpoint, ...this.#stored }
  }

  /** Signs where the chain stands, after all that was appended. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    await this.#committing
    if (!this.#owed.isEmpty) await this.#commitAll()
    clearTimeout(this.#retry)
    if (this.#sinceCheckpoint > 0) await this.#checkpoint()
    clearTimeout(this.#due)
    clearTimeout(this.#guard)
    await Promise.allSettled(this.#feeds.map((feed) => feed.close()))
  }

  /** One timer for all, set for the oldest: a timer for each record would cost as much as the rest of its way. */
  #refuseLate(): void {
    const longest = 2 * this.#options.deadline
    const now = performance.now()
    let next: number | undefined
    for (const entry of [...this.#underWay, ...this.#waiting]) {
      if (entry.over) continue
      const left = entry.since + longest - now
      if (left > 0) {
        next = Math.min(next ?? left, left)
        continue
      }
      entry.over = true
      entry.reject(this.#tooLate())
    }
    this.#guard =
      next === undefined
        ? undefined
        : setTimeout(() => {
            this.#refuseLate()
          }, next)
  }

  #tooLate(): DeputyError {
    const watched = [this.#store, ...this.#feeds.map((feed) => feed.watched)]
    const slow = watched.find(({ busy }) => busy) ?? watched.find(({ status }) => !status.ok) ?? this.#store
    return refuse('audit_unavailable', {
      sink: slow.status.name,
      problem: `the record was not durable within ${2 * this.#options.deadline} ms`,
    })
  }

  async #commitAll(): Promise<void> {
    // Requests that arrive in the same turn of the event loop share the commit.
    await new Promise(setImmediate)
    do {
      const batch = this.#waiting.splice(0, BATCH).filter(({ over }) => !over)
      this.#underWay = batch
      const comparing = this.#comparing.splice(0)
      try {
        if (comparing.length > 0) this.#doubtful ??= []
        await this.#commit(batch)
        for (const { resolve } of [...batch, ...comparing]) resolve()
        for (const entry of this.#owed.take(this.#options.clock.now())) this.#enqueue(entry)
        if (this.#sinceCheckpoint >= this.#options.checkpointEvery || this.#isDue || !this.#signer.status.ok)
          await this.#checkpoint()
        else this.#signLater()
      } catch (error) {
        for (const { reject } of [...batch, ...comparing]) reject(error)
        this.#retryLater()
      }
    } while (this.#waiting.length > 0 || this.#comparing.length > 0)
    this.#underWay = []
    this.#committing = undefined
  }

  /** An empty batch finds out whether the sinks are back, and gives them what they missed. */
  async #commit(batch: readonly Waiting[]): Promise<void> {
    if (this.#doubtful !== undefined) await this.#settle(this.#doubtful)
    if (batch.length === 0 && !this.#store.status.ok) await this.#tryStore()
    const rows = await this.#append(batch)
    const fed = await Promise.allSettled(this.#feeds.map((feed) => feed.bring(rows, this.#head)))
    const failed = fed.find((result) => result.status === 'rejected')
    if (failed === undefined) {
      this.#owed.addUnconfirmed(
        rows.filter((_, index) => batch[index]!.over),
        'it was durable too late',
      )
      return
    }
    this.#owed.addUnconfirmed(rows, problemOf(failed.reason))
    throw failed.reason
  }

  async #append(batch: readonly Waiting[]): Promise<readonly AuditRow[]> {
    const writes = batch.flatMap((entry) => entry.writes)
    for (let tries = 0; ; tries += 1) {
      let head = this.#head
      const rows = batch.map((entry) => {
        const row = link(head, entry)
        head = row
        return row
      })
      if (rows.length === 0) return rows
      try {
        await this.#store.commit(rows.length, () => this.#options.store.append(rows, this.#stored, writes))
      } catch (error) {
        this.#doubtful = rows
        // It ends otherwise than it did: what is so is found out, and the batch is linked to that.
        if (!isConflict(error) || tries > 0) throw error
        if ((await this.#settle(rows)).length > 0) throw error
        continue
      }
      this.#setHead(rows)
      return rows
    }
  }

  #setHead(rows: readonly AuditRow[]): void {
    const { seq, hash } = rows.at(-1)!
    this.#head = { seq, hash }
    this.#stored = this.#head
    this.#sinceCheckpoint += rows.length
    this.#recent.add(rows)
    this.#options.appended?.(this.#head)
  }

  /** Finds out what the store has of the rows in doubt, and of all before them. @returns the rows in doubt that it has */
  async #settle(doubtful: readonly AuditRow[]): Promise<readonly AuditRow[]> {
    const { store } = this.#options
    const head = this.#head
    // Where records are gone for good the chain ends before them until the next one is written.
    const known = { head: this.#stored.seq < head.seq ? this.#stored : head, genesis: emptyChain(this.#chain) }
    const found = await this.#store.ask(() => compareChain(store, known, doubtful, this.#recent.rows))
    const landed = 'landed' in found ? found.landed : []
    if (found.kind === 'whole' && landed.length > 0) this.#setHead(landed)
    if (found.kind === 'followed') {
      this.#sinceCheckpoint += found.stored.seq - head.seq
      this.#head = found.stored
      this.#stored = found.stored
      this.#recent.clear()
    }
    if (found.kind === 'followed' || found.kind === 'forked')
      this.#lastCheckpoint = (await this.#store.ask(() => store.lastCheckpoint()))?.number ?? 0
    if (found.kind === 'lost') await this.#writeAgain(found.stored)
    if (found.kind === 'forked') this.#goOnAfter(found.stored, found.missing)
    this.#doubtful = undefined
    this.#owed.addUnconfirmed(landed, 'the store confirmed it too late')
    return landed
  }

  /** The very records that the store has lost, as far as they are in memory. */
  async #writeAgain(stored: Head): Promise<void> {
    const [head, { store }] = [this.#head, this.#options]
    const kept = this.#recent.rows
    const { count, gone, last } = await this.#store.ask(() => writeRowsAgain(store, { stored, head, kept }))
    for (const checkpoint of this.#recent.checkpoints) await this.#store.ask(() => store.addCheckpoint(checkpoint))
    this.#stored = last
    this.#noteLoss({ stored, confirmed: head, writtenAgain: count, gone, forked: false })
  }

  /** The store has records of another process in the place of ours: ours are written after them. */
  #goOnAfter(stored: Head, missing: readonly AuditRow[]): void {
    const confirmed = this.#head
    this.#head = stored
    this.#stored = stored
    this.#recent.clear()
    for (const feed of this.#feeds) feed.doubt()
    for (const row of missing) this.#enqueue(toEntry(row))
    this.#noteLoss({ stored, confirmed, writtenAgain: missing.length, gone: null, forked: true })
  }

  #noteLoss(lost: LostRecords): void {
    const { losses, logger, store } = this.#options
    logger.error(
      { ...lost },
      'the store has lost audit records that it had confirmed; what is still in memory is written again',
    )
    const proof = lost.gone === null ? undefined : losses?.prove(gapText(store.node, lost.gone))
    this.#enqueue({
      record: { id: losses?.newId() ?? 'store.lost', event: 'store.lost', outcome: 'failed' },
      detail: JSON.stringify({ records: { ...lost, ...(proof === undefined ? {} : { proof }) } }),
      at: this.#options.clock.now(),
    })
    losses?.noticed(lost)
  }

  /** A record that no caller waits for. */
  #enqueue(entry: Entry): void {
    this.#waiting.push({
      ...entry,
      writes: [],
      since: performance.now(),
      over: false,
      resolve: () => undefined,
      reject: () => {
        this.#owed.add(entry)
      },
    })
  }

  /** Whether the store writes again, found out without a record: a signature of the head is a write as well. */
  async #tryStore(): Promise<void> {
    if (this.#sinceCheckpoint > 0 && !(await this.#checkpoint()))
      throw this.#store.refusal(this.#signer.status.problem ?? 'it does not write')
    this.#store.confirmed()
  }

  /** Without requests nothing else would notice that the sinks work again. */
  #retryLater(): void {
    if (this.#closed) return
    clearTimeout(this.#retry)
    this.#retry = setTimeout(() => {
      this.#committing ??= this.#commitAll()
    }, this.#options.deadline)
    this.#retry.unref()
  }

  /** Records that no others follow are signed in time, too. */
  #signLater(): void {
    if (this.#sinceCheckpoint === 0 || this.#due !== undefined || this.#closed) return
    this.#due = setTimeout(() => {
      this.#due = undefined
      this.#isDue = true
      this.#committing ??= this.#commitAll()
    }, this.#options.checkpointWithin)
    this.#due.unref()
  }

  /** The records are durable already: a checkpoint that fails refuses none of them, shows in the status and is tried again. */
  async #checkpoint(): Promise<boolean> {
    try {
      const unsigned = { number: this.#lastCheckpoint + 1, ...this.#head, at: this.#options.clock.now() }
      await this.#signer.ask(async () => {
        const { kid, signature } = this.#options.sign(checkpointBytes(this.#chain, unsigned))
        const checkpoint = { ...unsigned, kid, signature: signature.toString('base64url') }
        await this.#options.store.addCheckpoint(checkpoint)
        this.#recent.addCheckpoint(checkpoint)
        this.#options.signed?.(checkpoint)
      })
      this.#lastCheckpoint = unsigned.number
      this.#sinceCheckpoint = 0
      this.#isDue = false
      clearTimeout(this.#due)
      this.#due = undefined
      this.#signer.confirmed()
      return true
    } catch {
      // The signer's status has the reason, and the log has it too.
      this.#retryLater()
      return false
    }
  }
}
