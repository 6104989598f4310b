import { Worker } from 'node:worker_threads'
import { refuse } from '#errors'
import type { IndexReply, IndexRequest, IndexThread } from './protocol.ts'

type Distribute<T> = T extends unknown ? Omit<T, 'id'> : never

// Sources run as TypeScript, the published package as JavaScript: the thread's file is in the same folder.
const threadFile = new URL(import.meta.url.endsWith('.ts') ? './index-thread.ts' : './index-thread.js', import.meta.url)

/**
 * ms without any sign of the thread, after which what was asked is refused. An index that is made anew takes its time.
 */
const SILENCE_MS = 10_000
/**
 * The thread takes about 25 MB: it ends when for so long (ms) there was no question, and the next one begins another.
 */
const REST_MS = 30_000

/** The way to the thread of the index, which is there for as long as there are questions. */
export class IndexConnection {
  readonly #thread: IndexThread
  readonly #restAfter: number
  #worker: Worker | undefined
  readonly #waiting = new Map<number, { resolve(reply: IndexReply): void; reject(error: Error): void }>()
  #next = 1
  #timer: NodeJS.Timeout | undefined
  #heardAt = 0
  #askedAt = 0
  #resting: NodeJS.Timeout | undefined
  /** The end of a thread that has been told to: two would write the same file. */
  #ending: Promise<void> | undefined
  #closed = false

  /** @param rest ms without a question, after which the thread ends */
  constructor(thread: IndexThread, rest = REST_MS) {
    this.#thread = thread
    this.#restAfter = rest
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
      if (request.kind !== 'feed') this.#askedAt = this.#heardAt
      clearTimeout(this.#resting)
      this.#timer ??= setInterval(() => {
        this.#checkSilence()
      }, 1000)
      const send = (): void => {
        if (this.#waiting.has(id)) this.#open().postMessage({ ...request, id })
      }
      if (this.#ending === undefined) send()
      else void this.#ending.then(send)
    })
  }

  async close(): Promise<void> {
    clearTimeout(this.#resting)
    await this.#ending
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
      // What waits may be asked of another one by now.
      if (this.#worker !== worker) return
      this.#worker = undefined
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
    if (this.#waiting.size === 0) {
      this.#stopTimer()
      this.#rest()
    }
    if (reply.problem === undefined) waiting.resolve(reply)
    else waiting.reject(refuse('store_unavailable', { problem: reply.problem }))
  }

  /** Ends the thread when the last question is long enough ago. */
  #rest(): void {
    clearTimeout(this.#resting)
    this.#resting = setTimeout(
      () => {
        const worker = this.#worker
        if (worker === undefined || this.#closed || this.#waiting.size > 0) return
        this.#worker = undefined
        const { promise, resolve } = Promise.withResolvers<void>()
        // A thread that hangs is ended from here.
        const hanging = setTimeout(() => void worker.terminate(), SILENCE_MS).unref()
        worker.once('exit', () => {
          clearTimeout(hanging)
          this.#ending = undefined
          resolve()
        })
        this.#ending = promise
        worker.postMessage({ kind: 'close', id: 0 } satisfies IndexRequest)
      },
      Math.max(0, this.#askedAt + this.#restAfter - performance.now()),
    ).unref()
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
