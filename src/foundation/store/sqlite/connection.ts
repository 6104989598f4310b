import { Worker } from 'node:worker_threads'
import { type DeputyError, refuse } from '#errors'
import type { BoundStatement, SqlValue, StoreReply, StoreRequest, StoreRole, StoreThread } from './protocol.ts'

type Distribute<T> = T extends unknown ? Omit<T, 'id'> : never
type Answered = Extract<StoreReply, { rows: unknown }>

interface Waiting {
  readonly resolve: (reply: Answered) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

/** https://www.sqlite.org/rescode.html: the primary code is the low byte of the extended one. */
const CONSTRAINT = 19

/** A constraint was violated; the query layer knows what that means for each kind of record. */
export class ConstraintError extends Error {
  override readonly name = 'ConstraintError'
}

const toError = (problem: string, code: number): Error =>
  (code & 0xff) === CONSTRAINT ? new ConstraintError(problem) : refuse('store_unavailable', { problem })

const inUse = (path: string): DeputyError =>
  refuse('start_failed', {
    problem: `the state folder of ${path} is in use by another daemon`,
    fix: 'Stop the other daemon first (deputy status shows its process id), or give this one a home and a state folder of its own.',
  })

/** ms in which the thread must be ready: longer than a call may take, because a log left by a killed process is read first. */
const START = 30_000

// Sources run as TypeScript, the published package as JavaScript: the thread's file is in the same folder.
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
    worker.on('message', (replies: readonly StoreReply[]) => {
      for (const reply of replies) this.#settle(reply)
    })
    worker.on('error', (error) => {
      this.#end(`the store's thread failed: ${error.message}`)
    })
    worker.on('exit', () => {
      this.#end('the store is closed')
    })
  }

  /** @param deadline ms in which the store must answer. @throws DeputyError `start_failed` when another daemon holds it */
  static async open(path: string, deadline: number, role: StoreRole = 'holder'): Promise<SqliteConnection> {
    const worker = new Worker(workerFile, { workerData: { path, role } satisfies StoreThread })
    try {
      const started = await firstReply(worker)
      if (!('problem' in started)) return new SqliteConnection(worker, deadline)
      throw started.held === true ? inUse(path) : refuse('store_unavailable', { problem: started.problem })
    } catch (error) {
      await worker.terminate()
      throw error
    }
  }

  query(sql: string, parameters: readonly SqlValue[]): Promise<Answered> {
    return this.#ask({ kind: 'query', sql, parameters })
  }

  /** Runs the statements in one transaction: all or nothing, durable when it resolves. */
  async transaction(statements: readonly BoundStatement[]): Promise<void> {
    await this.#ask({ kind: 'transaction', statements })
  }

  async close(): Promise<void> {
    if (this.#ended !== undefined) return
    // What was asked before is still answered; what is asked from now on is refused.
    const closed = this.#ask({ kind: 'close' })
    this.#ended = 'the store is closed'
    try {
      await closed
    } finally {
      await this.#worker.terminate()
    }
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
      try {
        this.#worker.postMessage({ ...request, id })
      } catch (error) {
        clearTimeout(timer)
        this.#waiting.delete(id)
        reject(error as Error)
      }
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

const firstReply = async (worker: Worker): Promise<StoreReply> => {
  const { promise, resolve, reject } = Promise.withResolvers<StoreReply>()
  const fail = (problem: string, cause?: unknown): void => {
    reject(refuse('store_unavailable', { problem }, cause))
  }
  const failed = (error: Error): void => {
    fail(error.message, error)
  }
  const exited = (): void => {
    fail("the store's thread ended before it was ready")
  }
  const timer = setTimeout(() => {
    fail(`the store was not ready within ${START} ms`)
  }, START)
  worker.once('message', resolve).once('error', failed).once('exit', exited)
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    worker.off('message', resolve).off('error', failed).off('exit', exited)
  }
}
