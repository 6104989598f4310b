import { type DeputyError, refuse } from '#errors'
import type { AuditStore, StoreWrite } from '#foundation/store'
import type { Appended, ChainEntry, ChainEvents, ChainWriter, Placed } from './chains/chain-writer.ts'
import { Checkpoints, type CheckpointOptions } from './chains/checkpoints.ts'
import { TableChain, type Losses } from './chains/table-chain.ts'
import { columnsOf, type ChainName, type Entry, type Head } from './format/chain.ts'
import { Feed } from './sinks/feed.ts'
import { OwedRecords } from './owed.ts'
import type { AuditLog, AuditRecord } from './record.ts'
import type { AuditSink } from './sinks/sink.ts'
import type { KnownHead } from './verify/walk.ts'
import { problemOf, type SinkStatus, type Watch } from './sinks/watched-sink.ts'

export interface AuditLogOptions extends CheckpointOptions {
  readonly store: AuditStore
  readonly sinks: readonly AuditSink[]
  /** Names the installation, see `ChainName`. */
  readonly installation: string
  /** The store has every record up to this one; called at the start as well. */
  readonly appended?: (head: Head) => void
  /** Where the chain is written; default: into the tables of the store. */
  readonly openChain?: (watch: Watch, events: ChainEvents, needsRows: boolean) => Promise<ChainWriter>
  /** Of a store that can lose what it has confirmed. */
  readonly losses?: Losses
}

interface Waiting extends ChainEntry {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
  readonly since: number
  /** Its time is over: the caller has been refused. */
  over: boolean
}

/** What the log and its chain have in common. */
interface Shared {
  readonly owed: OwedRecords
  /** Records of the chain about itself, from before the log was there. */
  readonly early: Entry[]
  log: DurableAuditLog | undefined
}

/** Characters of a record's detail at most: a third of what a write of segments may be, with each of three bytes. */
const MAX_DETAIL = 6_000_000

/** Records in one commit at most, so that a flood is not one endless transaction. */
const BATCH = 512

const placedOf = ({ first, rows }: Appended, batch: readonly ChainEntry[]): readonly Placed[] =>
  rows.length > 0 ? rows : batch.map((entry, index) => ({ seq: first + index, ...columnsOf(entry) }))

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
  readonly #writer: ChainWriter
  readonly #checkpoints: Checkpoints
  readonly #feeds: readonly Feed[]
  #waiting: Waiting[] = []
  #underWay: readonly Waiting[] = []
  #guard: NodeJS.Timeout | undefined
  #committing: Promise<void> | undefined
  #comparing: { readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = []
  readonly #owed: OwedRecords
  readonly #chain: ChainName
  #retry: NodeJS.Timeout | undefined
  #closed = false

  private constructor(options: AuditLogOptions, writer: ChainWriter, shared: Shared) {
    this.#options = options
    this.#chain = { installation: options.installation, node: options.store.node }
    this.#writer = writer
    this.#owed = shared.owed
    this.#checkpoints = new Checkpoints(options, this.#chain, writer, () => {
      this.#committing ??= this.#commitAll()
    })
    this.#feeds = options.sinks.map((sink) => new Feed(sink, options.store, writer.head, options))
    shared.log = this
    options.appended?.(writer.head)
  }

  /** Goes on with the chain where the store has it. @throws DeputyError `store_unavailable` */
  static async open(options: AuditLogOptions): Promise<DurableAuditLog> {
    const shared: Shared = { owed: new OwedRecords(), early: [], log: undefined }
    const events: ChainEvents = {
      enqueue(entry) {
        if (shared.log === undefined) shared.early.push(entry)
        else shared.log.#enqueue(entry)
      },
      landedLate(records) {
        shared.owed.addUnconfirmed(records, 'the store confirmed it too late')
      },
      doubtFeeds() {
        if (shared.log !== undefined) for (const feed of shared.log.#feeds) feed.doubt()
      },
    }
    const writer = await (options.openChain?.(options, events, options.sinks.length > 0) ??
      TableChain.open(options, events))
    const log = new DurableAuditLog(options, writer, shared)
    for (const entry of shared.early) log.#enqueue(entry)
    return log
  }

  /** @throws DeputyError `audit_unavailable` with the sink and its problem; `internal` for a detail that is no JSON */
  async append(record: AuditRecord, writes: readonly StoreWrite[] = []): Promise<void> {
    // Where another sink can still refuse the record, what it allows has to wait for that one.
    const joins = this.#writer.joinsWrites && this.#feeds.length === 0
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
      if (detail.length > MAX_DETAIL) {
        reject(refuse('internal', {}, new Error(`an audit record has more than ${MAX_DETAIL} characters`)))
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
    const sinks = [this.#writer.watched.status, ...this.#feeds.map(({ watched }) => watched.status)]
    return this.#checkpoints.status.ok ? sinks : [...sinks, this.#checkpoints.status]
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
    const { stored, lastCheckpoint } = this.#writer
    return { ...this.#chain, source: 'this daemon', number: lastCheckpoint, ...stored }
  }

  /** Signs where the chain stands, after all that was appended. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    await this.#committing
    if (!this.#owed.isEmpty) await this.#commitAll()
    clearTimeout(this.#retry)
    if (this.#writer.unsigned > 0) await this.#checkpoints.take()
    this.#checkpoints.close()
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
    const store = this.#writer.watched
    const watched = [store, ...this.#feeds.map((feed) => feed.watched)]
    const slow = watched.find(({ busy }) => busy) ?? watched.find(({ status }) => !status.ok) ?? store
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
        if (comparing.length > 0) this.#writer.doubt()
        await this.#commit(batch)
        for (const { resolve } of [...batch, ...comparing]) resolve()
        for (const entry of this.#owed.take(this.#options.clock.now())) this.#enqueue(entry)
        if (!this.#checkpoints.isWanted) this.#checkpoints.wakeLater()
        else if (!(await this.#checkpoints.take())) this.#retryLater()
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
    await this.#writer.settle()
    if (batch.length === 0 && !this.#writer.watched.status.ok) await this.#tryStore()
    const appended = await this.#writer.append(batch)
    this.#options.appended?.(this.#writer.head)
    const { rows } = appended
    const fed = await Promise.allSettled(this.#feeds.map((feed) => feed.bring(rows, this.#writer.head)))
    const failed = fed.find((result) => result.status === 'rejected')
    if (failed === undefined) {
      if (batch.some(({ over }) => over))
        this.#owed.addUnconfirmed(
          placedOf(appended, batch).filter((_, index) => batch[index]!.over),
          'it was durable too late',
        )
      return
    }
    this.#owed.addUnconfirmed(placedOf(appended, batch), problemOf(failed.reason))
    throw failed.reason
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
    const { watched, unsigned } = this.#writer
    if (this.#writer.probe !== undefined) await this.#writer.probe()
    else if (unsigned > 0 && !(await this.#checkpoints.take()))
      throw watched.refusal(this.#checkpoints.status.problem ?? 'it does not write')
    watched.confirmed()
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
}
