import { Worker } from 'node:worker_threads'
import { refuse, type DeputyError } from '../../errors.ts'
import type { BoundStatement, SqlValue, StoreReply, StoreRequest } from './protocol.ts'

type Distribute<T> = T extends unknown ? Omit<T, 'id'> : never
type Answered = Extract<StoreReply, { rows: unknown }>

interface Waiting { readonly resolve: (reply: Answered) => void; readonly reject: (error: Error) => void; readonly timer: NodeJS.Timeout }

/** https://www.sqlite.org/rescode.html: primary codes, which are the low byte of the extended ones. */
const BUSY = 5
const CONSTRAINT = 19

/** A constraint was violated; the query layer knows what that means for each kind of record. */
export class ConstraintError extends Error { override readonly name = 'ConstraintError' }

const toError = (problem: string, code: number): Error =>
  (code & 0xff) === CONSTRAINT ? new ConstraintError(problem) : refuse('store_unavailable', { problem })

const inUse = (path: string): DeputyError => refuse('config_invalid', { problem: `the state folder of ${path} is in use by another daemon` })

// Sources run as TypeScript, the published package as JavaScript: the thread's file is the one beside this one.
const workerFile = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url)

/** The way to the thread that holds the database. Every call ends within the deadline, answered or not. */
export class SqliteConnection {
  readonly #worker: Worker
  readonly #deadline: number
  readonly #waiting = new Map<number, Waiting>()
  #next = 1
  #ended: string | undefined

  private constructor(worker: Worker, deadline: number) {
    this.#worker = worker
    this.#deadline = deadline
    worker.on('message', (reply: StoreReply) => { this.#settle(reply) })
    worker.on('error', (error) => { this.#end(`the store's thread failed: ${error.message}`) })
    worker.on('exit', () => { this.#end('the store is closed') })
  }

  /** @param deadline ms in which the store must answer. @throws DeputyError `config_invalid` when another daemon holds it */
  static async open(path: string, deadline: number): Promise<SqliteConnection> {
    const worker = new Worker(workerFile, { workerData: { path } })
    const started = await new Promise<StoreReply>((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', (error) => { reject(refuse('store_unavailable', { problem: error.message }, error)) })
    })
    if ('problem' in started) {
      await worker.terminate()
      throw (started.code & 0xff) === BUSY ? inUse(path) : refuse('store_unavailable', { problem: started.problem })
    }
    return new SqliteConnection(worker, deadline)
  }

  query(sql: string, parameters: readonly SqlValue[]): Promise<Answered> { return this.#ask({ kind: 'query', sql, parameters }) }

  /** Runs the statements in one transaction: all or nothing, durable when it resolves. */
  async transaction(statements: readonly BoundStatement[]): Promise<void> { await this.#ask({ kind: 'transaction', statements }) }

  async close(): Promise<void> {
    if (this.#ended !== undefined) return
    await this.#ask({ kind: 'close' })
    await this.#worker.terminate()
  }

  #ask(request: Distribute<StoreRequest>): Promise<Answered> {
    if (this.#ended !== undefined) return Promise.reject(refuse('store_unavailable', { problem: this.#ended }))
    const id = this.#next++
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id)
        reject(refuse('store_unavailable', { problem: `no answer within ${this.#deadline} ms` }))
      }, this.#deadline)
      this.#waiting.set(id, { resolve, reject, timer })
      this.#worker.postMessage({ ...request, id })
    })
  }

  #settle(reply: StoreReply): void {
    const waiting = this.#waiting.get(reply.id)
    if (waiting === undefined) return
    this.#waiting.delete(reply.id)
    clearTimeout(waiting.timer)
    if ('problem' in reply) waiting.reject(toError(reply.problem, reply.code))
    else waiting.resolve(reply)
  }

  #end(problem: string): void {
    this.#ended ??= problem
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer)
      reject(refuse('store_unavailable', { problem }))
    }
    this.#waiting.clear()
  }
}
