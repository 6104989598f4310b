import type { Transform } from 'node:stream'
import type { Dispatcher } from 'undici'
import { codingOf, createDecoder, withoutSecrets } from './decoding.ts'
import { without } from './headers.ts'
import { plainOf } from './plain.ts'
import { createRedaction, type Needles, type Rewriter } from './rewriter.ts'
import { rawHeadersOf, upstreamError, type Upstream, type UpstreamRequest } from './upstream.ts'

/** The whole answer of a service, decoded, with secrets struck out. */
export interface CollectedAnswer {
  readonly status: number
  /** Names and values in turn. */
  readonly headers: readonly string[]
  readonly body: Buffer
  /** Whether the body went on beyond the limit. */
  readonly isCut: boolean
}

export interface CollectOptions {
  /** What must not come back. */
  readonly needles: Needles
  /** Bytes of the decoded body; what comes after them is not read. */
  readonly maxBytes: number
  /** Ends the request. */
  readonly signal: AbortSignal
  /** Called before bytes of the body are held in memory. @throws what the answer then fails with */
  readonly onHeld?: (bytes: number) => void
}

interface Outcome {
  readonly resolve: (answer: CollectedAnswer) => void
  readonly reject: (error: unknown) => void
}

/** Headers that do not hold for the body as it is kept. */
const OF_THE_CODED_BODY = new Set(['content-encoding', 'content-length', 'transfer-encoding'])

class AnswerCollector implements Dispatcher.DispatchHandler {
  readonly #origin: string
  readonly #options: CollectOptions
  readonly #outcome: Outcome
  readonly #chunks: Buffer[] = []
  readonly #redaction: Rewriter
  #head: { readonly status: number; readonly headers: readonly string[] } | undefined
  #decoder: Transform | undefined
  #abort: ((reason: Error) => void) | undefined
  #size = 0
  #isOver = false

  constructor(origin: string, options: CollectOptions, outcome: Outcome) {
    this.#origin = origin
    this.#options = options
    this.#outcome = outcome
    this.#redaction = createRedaction(options.needles)
    options.signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  readonly #onAbort = (): void => {
    this.#fail(this.#options.signal.reason)
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#abort = (reason) => {
      controller.abort(reason)
    }
    if (this.#isOver) this.#abort(new Error('the call has ended'))
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200) return
    const raw = rawHeadersOf(controller)
    const coding = codingOf(raw)
    if (coding !== '') this.#decoder = this.#createDecoder(coding, controller)
    this.#head = { status, headers: withoutSecrets(without(raw, OF_THE_CODED_BODY), this.#options.needles) }
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#decoder === undefined) this.#keep(chunk)
    else if (!this.#decoder.write(chunk)) controller.pause()
  }

  onResponseEnd(): void {
    if (this.#decoder === undefined) this.#finish(false)
    else this.#decoder.end()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#fail(upstreamError(error, this.#origin))
  }

  /** @throws DeputyError `upstream_unreachable` for a coding that cannot be read */
  #createDecoder(coding: string, controller: Dispatcher.DispatchController): Transform {
    const decoder = createDecoder(coding, this.#origin)
    return decoder
      .on('data', (chunk: Buffer) => {
        this.#keep(chunk)
      })
      .on('drain', () => {
        controller.resume()
      })
      .on('end', () => {
        this.#finish(false)
      })
      .on('error', (error) => {
        controller.abort(error)
        this.#fail(upstreamError(error, this.#origin))
      })
  }

  /** A body that expands when it is decoded is read no further than the limit. */
  #keep(chunk: Buffer): void {
    if (this.#isOver) return
    try {
      this.#options.onHeld?.(chunk.length)
    } catch (error) {
      this.#fail(error)
      return
    }
    const shown = this.#redaction.write(chunk)
    this.#chunks.push(shown)
    this.#size += shown.length
    if (this.#size > this.#options.maxBytes) this.#finish(true)
  }

  #finish(isCut: boolean): void {
    const head = this.#head
    if (this.#isOver || head === undefined) return
    const whole = Buffer.concat(isCut ? this.#chunks : [...this.#chunks, this.#redaction.end()])
    const { maxBytes } = this.#options
    this.#end()
    if (isCut) this.#stop()
    const answer = {
      ...head,
      body: whole.length > maxBytes ? whole.subarray(0, maxBytes) : whole,
      isCut: isCut || whole.length > maxBytes,
    }
    this.#outcome.resolve(plainOf(answer, this.#options.needles))
  }

  #fail(error: unknown): void {
    if (this.#isOver) return
    this.#end()
    this.#stop()
    this.#outcome.reject(error)
  }

  #stop(): void {
    this.#decoder?.destroy()
    this.#abort?.(new Error('the rest of the answer is not read'))
  }

  #end(): void {
    this.#isOver = true
    this.#options.signal.removeEventListener('abort', this.#onAbort)
  }
}

/**
 * Sends a request and reads its whole answer.
 * @throws DeputyError of `upstreamError`, and the reason of the signal
 */
export const collectAnswer = (
  upstream: Pick<Upstream, 'send'>,
  outgoing: UpstreamRequest,
  options: CollectOptions,
): Promise<CollectedAnswer> =>
  new Promise((resolve, reject) => {
    options.signal.throwIfAborted()
    upstream.send(outgoing, new AnswerCollector(outgoing.origin, options, { resolve, reject }))
  })
