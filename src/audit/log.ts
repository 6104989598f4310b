import type { Clock } from '../clock.ts'
import { DeputyError, refuse } from '../errors.ts'
import type { Logger } from '../observe/logger.ts'
import type { Telemetry } from '../observe/telemetry.ts'
import type { AuditRow, AuditStore } from '../store/store.ts'
import { emptyChain, link, type Head } from './chain.ts'
import type { AuditLog, AuditRecord } from './record.ts'
import type { AuditSink } from './sink.ts'

/** How a sink does. */
export interface SinkStatus { readonly name: string; readonly ok: boolean; readonly problem: string | null; readonly lastDurableAt: number | null }

export interface AuditLogOptions {
  readonly store: AuditStore
  readonly sinks: readonly AuditSink[]
  readonly clock: Clock
  /** ms in which each sink must confirm. */
  readonly deadline: number
  readonly checkpointEvery: number
  readonly sign: (bytes: Uint8Array) => { kid: string; signature: Buffer }
  readonly telemetry: Telemetry
  readonly logger: Logger
}

interface Waiting { readonly record: AuditRecord; readonly resolve: () => void; readonly reject: (error: Error) => void }

/** Records in one commit at most, so that a flood is not one endless transaction. */
const BATCH = 512

/**
 * The audit log: group commit of hash-chained records into the store, then into the other sinks. A record waits at
 * most for the batch under way. Whatever any sink does not confirm within its deadline has not been recorded, and
 * who asked is told so (promise 3); nothing waits longer than that (threat 29).
 */
export class DurableAuditLog implements AuditLog {
  readonly #options: AuditLogOptions
  readonly #status = new Map<string, SinkStatus>()
  readonly #store: AuditSink
  #head: Head
  #waiting: Waiting[] = []
  #committing: Promise<void> | undefined
  /** After a failure it is not known whether the store has the batch: the head is read again before the next one. */
  #headIsSure = true
  /** Per sink, the work that has not come back yet; a sink that hangs gets nothing more until it has. */
  readonly #busy = new Map<AuditSink, Promise<void>>()
  /** The last record that each sink beside the store has. */
  readonly #written = new Map<AuditSink, number>()
  #sinceCheckpoint = 0

  private constructor(options: AuditLogOptions, head: Head) {
    this.#options = options
    this.#head = head
    for (const sink of options.sinks) this.#written.set(sink, head.seq)
    this.#store = { name: 'store', write: (rows) => options.store.append(rows), close: () => Promise.resolve() }
    for (const { name } of [this.#store, ...options.sinks]) this.#status.set(name, { name, ok: true, problem: null, lastDurableAt: null })
  }

  static async open(options: AuditLogOptions): Promise<DurableAuditLog> {
    return new DurableAuditLog(options, await options.store.head() ?? emptyChain)
  }

  append(record: AuditRecord): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ record, resolve, reject })
      this.#committing ??= this.#commitAll()
    })
  }

  status(): SinkStatus[] { return [...this.#status.values()] }

  /** Signs where the chain stands, after all that was appended. */
  async close(): Promise<void> {
    await this.#committing
    if (this.#sinceCheckpoint > 0) await this.#checkpoint().catch((error: unknown) => { this.#options.logger.error({ err: error }, 'the last audit checkpoint was not written') })
    await Promise.all(this.#options.sinks.map((sink) => sink.close()))
  }

  async #commitAll(): Promise<void> {
    // Requests that arrive in the same turn of the event loop share the commit.
    await new Promise(setImmediate)
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, BATCH)
      try {
        await this.#commit(batch.map(({ record }) => record))
        for (const { resolve } of batch) resolve()
      } catch (error) {
        for (const { reject } of batch) reject(error as Error)
      }
    }
    this.#committing = undefined
  }

  async #commit(records: readonly AuditRecord[]): Promise<void> {
    if (!this.#headIsSure) await this.#readHead()
    const at = this.#options.clock.now()
    let head = this.#head
    const rows = records.map((record) => {
      const row = link(head, record, at)
      head = row
      return row
    })
    try { await this.#write(this.#store, rows) } catch (error) { this.#headIsSure = false; throw error }
    this.#head = { seq: head.seq, hash: head.hash }
    await Promise.all(this.#options.sinks.map(async (sink) => {
      await this.#write(sink, [...await this.#missedBy(sink, rows[0]!.seq), ...rows])
      this.#written.set(sink, head.seq)
    }))
    this.#sinceCheckpoint += rows.length
    if (this.#sinceCheckpoint >= this.#options.checkpointEvery) await this.#within(this.#store, this.#checkpoint())
  }

  /** What a sink did not get while it failed, out of the store: a file has no gaps once it is back. */
  async #missedBy(sink: AuditSink, next: number): Promise<AuditRow[]> {
    const written = this.#written.get(sink) ?? next - 1
    if (written >= next - 1) return []
    const missed = await this.#options.store.query({ afterSeq: written }, { limit: next - 1 - written })
    return missed.filter(({ seq }) => seq < next)
  }

  async #readHead(): Promise<void> {
    const pending = this.#busy.get(this.#store)
    if (pending !== undefined) throw this.#refusal(this.#store, 'still busy with an earlier batch')
    this.#head = await this.#within(this.#store, this.#options.store.head()) ?? emptyChain
    this.#headIsSure = true
  }

  async #write(sink: AuditSink, rows: readonly AuditRow[]): Promise<void> {
    if (this.#busy.has(sink)) throw this.#refusal(sink, 'still busy with an earlier batch')
    const began = performance.now()
    const work = sink.write(rows)
    const settled = work.then(() => undefined, () => undefined)
    this.#busy.set(sink, settled)
    void settled.then(() => { this.#busy.delete(sink) })
    const report = (outcome: 'durable' | 'failed'): void => {
      this.#options.telemetry.audit({ sink: sink.name, outcome, records: rows.length, seconds: (performance.now() - began) / 1000 })
    }
    try { await this.#within(sink, work) } catch (error) { report('failed'); throw error }
    report('durable')
    this.#status.set(sink.name, { name: sink.name, ok: true, problem: null, lastDurableAt: this.#options.clock.now() })
  }

  /** What the sink does, or a refusal when its deadline comes first. */
  async #within<T>(sink: AuditSink, work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => { reject(new Error(`no answer within ${this.#options.deadline} ms`)) }, this.#options.deadline)
    })
    try { return await Promise.race([work, late]) } catch (error) {
      throw this.#refusal(sink, error instanceof DeputyError ? String(error.facts['problem'] ?? error.message) : (error as Error).message, error)
    } finally { clearTimeout(timer) }
  }

  #refusal(sink: AuditSink, problem: string, cause?: unknown): DeputyError {
    const before = this.#status.get(sink.name)
    this.#status.set(sink.name, { name: sink.name, ok: false, problem, lastDurableAt: before?.lastDurableAt ?? null })
    if (before?.ok === true) this.#options.logger.error({ sink: sink.name, problem }, 'an audit sink does not confirm records: nothing is issued until it does')
    return refuse('audit_unavailable', { sink: sink.name, problem }, cause)
  }

  async #checkpoint(): Promise<void> {
    const { seq, hash } = this.#head
    const at = this.#options.clock.now()
    const { kid, signature } = this.#options.sign(checkpointBytes({ seq, hash, at }))
    await this.#options.store.addCheckpoint({ seq, hash, at, kid, signature: signature.toString('base64url') })
    this.#sinceCheckpoint = 0
  }
}

/** What a checkpoint's signature covers. */
export const checkpointBytes = ({ seq, hash, at }: { seq: number; hash: string; at: number }): Uint8Array =>
  Buffer.from(JSON.stringify(['deputy audit checkpoint', seq, hash, at]))
