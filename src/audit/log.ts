import { refuse, type DeputyError } from '../errors.ts'
import type { AuditRow, AuditStore } from '../store/records/audit.ts'
import { checkpointBytes, emptyChain, link, type Entry, type Head } from './chain.ts'
import { Feed } from './feed.ts'
import type { AuditLog, AuditRecord } from './record.ts'
import type { AuditSink } from './sink.ts'
import { problemOf, WatchedSink, type SinkStatus, type Watch } from './watched-sink.ts'

export interface AuditLogOptions extends Watch {
  readonly store: AuditStore
  readonly sinks: readonly AuditSink[]
  readonly checkpointEvery: number
  readonly sign: (bytes: Uint8Array) => { kid: string; signature: Buffer }
}

interface Waiting extends Entry {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
  readonly since: number
  /** Its time is over: whoever asked has been refused. */
  over: boolean
}

/** Records in one commit at most, so that a flood is not one endless transaction. */
const BATCH = 512

/** Notes kept in memory about records that were refused after the store had them. */
const NOTES = 10_000

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
  #waiting: Waiting[] = []
  #underWay: readonly Waiting[] = []
  #guard: NodeJS.Timeout | undefined
  #committing: Promise<void> | undefined
  /** What the store did not confirm: it may have it nevertheless, so its head is read before the next batch. */
  #doubtful: readonly AuditRow[] | undefined
  #unconfirmed: { readonly row: AuditRow; readonly problem: string }[] = []
  #sinceCheckpoint: number
  #retry: NodeJS.Timeout | undefined
  #closed = false

  private constructor(options: AuditLogOptions, head: Head, sinceCheckpoint: number) {
    this.#options = options
    this.#head = head
    this.#sinceCheckpoint = sinceCheckpoint
    this.#store = new WatchedSink('store', options)
    this.#signer = new WatchedSink('checkpoint', options)
    this.#feeds = options.sinks.map((sink) => new Feed(sink, options.store, head, options))
  }

  /** Goes on with the chain where the store has it. @throws DeputyError `store_unavailable` */
  static async open(options: AuditLogOptions): Promise<DurableAuditLog> {
    const head = (await options.store.head()) ?? emptyChain
    const signed = (await options.store.checkpoints()).at(-1)?.seq ?? 0
    if (signed > head.seq)
      options.logger.error(
        { signed, last: head.seq },
        'the audit log ends before its last checkpoint: records were removed; run deputy audit verify',
      )
    return new DurableAuditLog(options, head, Math.max(0, head.seq - signed))
  }

  /** @throws DeputyError `audit_unavailable` with the sink and its problem; `internal` for a detail that is no JSON */
  append(record: AuditRecord): Promise<void> {
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

  /** Signs where the chain stands, after all that was appended. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    await this.#committing
    if (this.#unconfirmed.length > 0) await this.#commitAll()
    clearTimeout(this.#retry)
    if (this.#sinceCheckpoint > 0) await this.#checkpoint()
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
      try {
        await this.#commit(batch)
        for (const { resolve } of batch) resolve()
        this.#noteUnconfirmed()
        if (this.#sinceCheckpoint >= this.#options.checkpointEvery || !this.#signer.status.ok) await this.#checkpoint()
      } catch (error) {
        for (const { reject } of batch) reject(error)
        this.#retryLater()
      }
    } while (this.#waiting.length > 0)
    this.#underWay = []
    this.#committing = undefined
  }

  /** An empty batch finds out whether the sinks are back, and gives them what they missed. */
  async #commit(batch: readonly Waiting[]): Promise<void> {
    if (this.#doubtful !== undefined) await this.#readHead(this.#doubtful)
    if (batch.length === 0 && !this.#store.status.ok) await this.#tryStore()
    let head = this.#head
    const rows = batch.map((entry) => {
      const row = link(head, entry)
      head = row
      return row
    })
    if (rows.length > 0) {
      try {
        await this.#store.commit(rows.length, () => this.#options.store.append(rows))
      } catch (error) {
        this.#doubtful = rows
        throw error
      }
      this.#head = { seq: head.seq, hash: head.hash }
      this.#sinceCheckpoint += rows.length
    }
    const fed = await Promise.allSettled(this.#feeds.map((feed) => feed.bring(rows, this.#head)))
    const failed = fed.find((result) => result.status === 'rejected')
    if (failed === undefined) {
      this.#remember(
        rows.filter((_, index) => batch[index]!.over),
        'it was durable too late',
      )
      return
    }
    this.#remember(rows, problemOf(failed.reason))
    throw failed.reason
  }

  async #readHead(doubtful: readonly AuditRow[]): Promise<void> {
    const head = (await this.#store.ask(() => this.#options.store.head())) ?? emptyChain
    const landed = doubtful.filter(({ seq }) => seq <= head.seq)
    this.#sinceCheckpoint += head.seq - this.#head.seq
    this.#head = head
    this.#doubtful = undefined
    this.#remember(landed, 'the store confirmed it too late')
  }

  /** Whether the store writes again, found out without a record: a signature of the head is a write as well. */
  async #tryStore(): Promise<void> {
    if (this.#sinceCheckpoint > 0 && !(await this.#checkpoint()))
      throw this.#store.refusal(this.#signer.status.problem ?? 'it does not write')
    this.#store.confirmed()
  }

  #remember(rows: readonly AuditRow[], problem: string): void {
    for (const row of rows)
      if (row.event !== 'audit.unconfirmed' && this.#unconfirmed.length < NOTES)
        this.#unconfirmed.push({ row, problem })
  }

  /** Says of records in the store that whoever asked for them was refused. */
  #noteUnconfirmed(): void {
    for (const note of this.#unconfirmed.splice(0, BATCH)) {
      const { seq, id, event, tenant, user, server, downstream } = note.row
      const reject = (): void => {
        this.#unconfirmed.push(note)
      }
      this.#waiting.push({
        record: {
          id,
          event: 'audit.unconfirmed',
          outcome: 'failed',
          ...(tenant === null ? {} : { tenant }),
          ...(user === null ? {} : { user }),
          ...(server === null ? {} : { server }),
          ...(downstream === null ? {} : { downstream }),
        },
        detail: JSON.stringify({ record: seq, recorded: event, problem: note.problem }),
        at: this.#options.clock.now(),
        since: performance.now(),
        over: false,
        resolve: () => undefined,
        reject,
      })
    }
  }

  /** Without requests nobody else would find out that the sinks are back. */
  #retryLater(): void {
    if (this.#closed) return
    clearTimeout(this.#retry)
    this.#retry = setTimeout(() => {
      this.#committing ??= this.#commitAll()
    }, this.#options.deadline)
    this.#retry.unref()
  }

  /** The records are durable already: a checkpoint that fails refuses none of them, shows in the status and is tried again. */
  async #checkpoint(): Promise<boolean> {
    try {
      const { seq, hash } = this.#head
      const at = this.#options.clock.now()
      await this.#signer.ask(async () => {
        const { kid, signature } = this.#options.sign(checkpointBytes({ seq, hash, at }))
        await this.#options.store.addCheckpoint({ seq, hash, at, kid, signature: signature.toString('base64url') })
      })
      this.#sinceCheckpoint = 0
      this.#signer.confirmed()
      return true
    } catch {
      // The signer's status has the reason, and the log has it too.
      this.#retryLater()
      return false
    }
  }
}
