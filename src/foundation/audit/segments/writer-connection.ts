import { Worker } from 'node:worker_threads'
import { refuse } from '#errors'
import { signFooter } from '../format/segment.ts'
import type { Sign } from '../format/signature.ts'
import type { ChainState, WriterReply, WriterRequest, WriterStart, WriterThread } from './protocol.ts'

type Distribute<T> = T extends unknown ? Omit<T, 'id'> : never
type Answered = Extract<WriterReply, { head: unknown }>
interface Waiting {
  resolve(reply: Answered): void
  reject(error: Error): void
}
export type Started = Extract<WriterStart, { recovery: unknown }>

/** ms in which the thread must be ready: the last segment is read first, and a slow disk takes seconds for that. */
const START_MS = 60_000

// Sources run as TypeScript, the published package as JavaScript: the thread's file is in the same folder.
const threadFile = new URL(
  import.meta.url.endsWith('.ts') ? './writer-thread.ts' : './writer-thread.js',
  import.meta.url,
)

/** What to do about a chain whose end is not known. */
const fixOf = (path: string | undefined, byte: number | undefined): string =>
  path === undefined || byte === undefined
    ? 'Check that the user of the daemon owns the folder and may write there, and that the disk has room.'
    : byte === 0
      ? `Put the file back as it was. To begin a new log instead, keep the folder elsewhere; deputy audit verify will say that records are missing.`
      : `Put back a good copy of the file. To go on without what follows byte ${byte}, keep a copy of the file, run: truncate -s ${byte} ${path}; deputy audit verify says what is missing.`

/** The way to the thread that writes a chain. Deadlines are the caller's: a thread that hangs answers late. */
export class WriterConnection {
  readonly #worker: Worker
  readonly #waiting = new Map<number, Waiting>()
  #next = 1
  #ended: string | undefined
  #state: ChainState

  private constructor(worker: Worker, state: ChainState) {
    this.#worker = worker
    this.#state = state
    worker.on('message', (reply: WriterReply) => {
      this.#settle(reply)
    })
    worker.on('error', (error) => {
      this.#end(`the thread of the audit log failed: ${error.message}`)
    })
    worker.on('exit', () => {
      this.#end('the audit log is closed')
    })
  }

  /** @throws DeputyError `start_failed` where the chain cannot be gone on with, or another process writes it */
  static async open(thread: WriterThread): Promise<{ connection: WriterConnection; started: Started }> {
    const worker = new Worker(threadFile, { workerData: thread })
    try {
      const started = await firstMessage(worker)
      if ('recovery' in started) return { connection: new WriterConnection(worker, started), started }
      throw started.held === true
        ? refuse('start_failed', {
            problem: `the audit log in ${thread.folder} is being written by another daemon`,
            fix: 'Stop the other daemon first (deputy status shows its process id), or give this one a state folder of its own.',
          })
        : refuse('start_failed', {
            problem: `the audit log cannot be gone on with: ${started.path === undefined ? thread.folder : `${started.path}, byte ${started.byte}`}: ${started.problem}`,
            fix: fixOf(started.path, started.byte),
          })
    } catch (error) {
      await worker.terminate()
      throw error
    }
  }

  /** Where the chain stood after the last answer. */
  get state(): ChainState {
    return this.#state
  }

  /** @throws DeputyError `store_unavailable`, or `conflict` where the chain ends otherwise */
  ask(request: Distribute<WriterRequest>): Promise<Answered> {
    if (this.#ended !== undefined) return Promise.reject(refuse('store_unavailable', { problem: this.#ended }))
    const id = this.#next++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#worker.postMessage({ ...request, id })
    })
  }

  /** Seals the segment and begins the next one; one without records is left as it is. */
  async seal(sign: Sign, now: number): Promise<void> {
    const { footer } = await this.ask({ kind: 'footer', now })
    if (footer !== undefined) await this.ask({ kind: 'seal', footer: signFooter(footer, sign) })
  }

  async close(): Promise<void> {
    if (this.#ended !== undefined) return
    const closed = this.ask({ kind: 'close' })
    this.#ended = 'the audit log is closed'
    try {
      await closed
    } finally {
      await this.#worker.terminate()
    }
  }

  #settle(reply: WriterReply): void {
    const waiting = this.#waiting.get(reply.id)
    if (waiting === undefined) return
    this.#waiting.delete(reply.id)
    if ('problem' in reply) {
      waiting.reject(
        reply.conflict === true
          ? refuse('conflict', { what: 'audit log' }, new Error(reply.problem))
          : refuse('store_unavailable', { problem: reply.problem }),
      )
      return
    }
    this.#state = reply
    waiting.resolve(reply)
  }

  #end(problem: string): void {
    this.#ended ??= problem
    for (const { reject } of this.#waiting.values()) reject(refuse('store_unavailable', { problem }))
    this.#waiting.clear()
  }
}

const firstMessage = async (worker: Worker): Promise<WriterStart> => {
  const { promise, resolve, reject } = Promise.withResolvers<WriterStart>()
  const fail = (problem: string): void => {
    reject(refuse('store_unavailable', { problem }))
  }
  const failed = ({ message }: Error): void => {
    fail(message)
  }
  const exited = (): void => {
    fail('the thread of the audit log ended before it was ready')
  }
  const timer = setTimeout(() => {
    fail(`the audit log was not ready within ${START_MS} ms`)
  }, START_MS)
  worker.once('message', resolve).once('error', failed).once('exit', exited)
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    worker.off('message', resolve).off('error', failed).off('exit', exited)
  }
}
