import { Worker } from 'node:worker_threads'
import { refuse } from '#errors'
import type { IndexReply, IndexRequest, IndexThread } from './protocol.ts'

type Distribute<T> = T extends unknown ? Omit<T, 'id'> : never

// Sources run as TypeScript, the published package as JavaScript: the thread's file is in the same folder.
const threadFile = new URL(import.meta.url.endsWith('.ts') ? './index-thread.ts' : './index-thread.js', import.meta.url)

/** ms without any sign of the thread, after which what was asked is refused. An index that is made anew takes its time. */
const SILENCE_MS = 10_000

/** The way to the thread of the index, which begins with the first question. */
export class IndexConnection {
  readonly #thread: IndexThread
  #worker: Worker | undefined
  readonly #waiting = new Map<number, { resolve(reply: IndexReply): void; reject(error: Error): void }>()
  #next = 1
  #timer: NodeJS.Timeout | undefined
  #heardAt = 0
  #closed = false

  constructor(thread: IndexThread) {
    this.#thread = thread
  }

  get isOpen(): boolean {
    return this.#worker !== undefined
  }

  /** @throws DeputyError `store_unavailable` */
  ask(request: Distribute<IndexRequest>): Promise<IndexReply> {
    if (this.#closed) return Promise.reject(refuse('store_unavailable', { problem: 'the audit log is closed' }))
    const id = this.#next++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#heardAt = performance.now()
      this.#timer ??= setInterval(() => {
        this.#checkSilence()
      }, 1000)
      this.#open().postMessage({ ...request, id })
    })
  }

  async close(): Promise<void> {
    const worker = this.#worker
    if (this.#closed) return
    if (worker === undefined) {
      this.#closed = true
      return
    }
    const closed = this.ask({ kind: 'close' })
    this.#closed = true
    await closed.catch(() => undefined)
    await worker.terminate()
  }

  #open(): Worker {
    if (this.#worker !== undefined) return this.#worker
    const worker = new Worker(threadFile, { workerData: this.#thread })
    this.#worker = worker
    worker.on('message', (reply: IndexReply) => {
      this.#heardAt = performance.now()
      this.#settle(reply)
    })
    const ended = (problem: string): void => {
      // The next question begins another one.
      if (this.#worker === worker) this.#worker = undefined
      this.#rejectAll(problem)
    }
    worker.on('error', (error) => {
      ended(`the thread of the audit log's index failed: ${error.message}`)
    })
    worker.on('exit', () => {
      ended('the index of the audit log is closed')
    })
    return worker
  }

  #settle(reply: IndexReply): void {
    const waiting = this.#waiting.get(reply.id)
    if (waiting === undefined) return
    this.#waiting.delete(reply.id)
    if (this.#waiting.size === 0) this.#stopTimer()
    if (reply.problem === undefined) waiting.resolve(reply)
    else waiting.reject(refuse('store_unavailable', { problem: reply.problem }))
  }

  #checkSilence(): void {
    if (performance.now() - this.#heardAt > SILENCE_MS) this.#rejectAll(`no answer within ${SILENCE_MS} ms`)
  }

  #rejectAll(problem: string): void {
    for (const { reject } of this.#waiting.values()) reject(refuse('store_unavailable', { problem }))
    this.#waiting.clear()
    this.#stopTimer()
  }

  #stopTimer(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
