import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Transform } from 'node:stream'
import type { Dispatcher } from 'undici'
import {
  codingOf,
  createDecoder,
  createRedaction,
  type Needles,
  passedOn,
  rawHeadersOf,
  type Rewriter,
  type Upstream,
  upstreamError,
  type UpstreamRequest,
  withoutSecrets,
} from '#flows/injected-request'

/** Headers of a coded body, which do not hold once it is decoded. */
const CODED_BODY_HEADERS = new Set([
  'content-encoding',
  'content-length',
  'digest',
  'content-digest',
  'repr-digest',
  'content-md5',
])
const NO_HEADERS = new Set<string>()

export interface RelayOptions {
  /** What must not come back. */
  readonly needles: Needles
  /** Whether bodies are searched for it; headers always are. */
  readonly redact: boolean
  /** Headers that the proxy adds to the answer. */
  readonly addedHeaders: readonly string[]
}

interface AnswerTarget {
  readonly isHead: boolean
  readonly response: ServerResponse
  /** Of the service, for errors. */
  readonly origin: string
  readonly options: RelayOptions
  /** Called once, when the answer is over. @param failure set when it failed before it began */
  readonly settle: (failure?: unknown) => void
}

/** Writes the answer of a service to the caller's response, decoded and redacted where `options` say so. */
class AnswerRelay implements Dispatcher.DispatchHandler {
  readonly #target: AnswerTarget
  #abort: ((reason: Error) => void) | undefined
  #decoder: Transform | undefined
  #redaction: Rewriter | undefined
  #isOver = false

  constructor(target: AnswerTarget) {
    this.#target = target
    target.response
      .once('close', () => {
        if (!target.response.writableFinished) this.#abort?.(new Error('the caller has gone away'))
        this.#end()
      })
      .once('finish', () => {
        this.#end()
      })
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    const { response } = this.#target
    this.#abort = (reason) => {
      controller.abort(reason)
    }
    if (response.destroyed) this.#abort(new Error('the caller has gone away'))
    response.on('drain', () => {
      if (this.#decoder === undefined) controller.resume()
      else this.#decoder.resume()
    })
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    _headers: unknown,
    message?: string,
  ): void {
    if (status < 200) return
    const { isHead, response, options } = this.#target
    const raw = rawHeadersOf(controller)
    const hasBody = !isHead && status !== 204 && status !== 304
    const coding = options.redact && hasBody ? codingOf(raw) : ''
    const isCoded = coding !== ''
    if (isCoded) this.#decoder = this.#createDecoder(coding, controller)
    if (options.redact && hasBody) this.#redaction = createRedaction(options.needles)
    const [words, ...headers] = withoutSecrets(
      [message ?? '', ...passedOn(raw, isCoded ? CODED_BODY_HEADERS : NO_HEADERS)],
      options.needles,
    )
    response.writeHead(status, words === '' ? undefined : words, [...headers, ...options.addedHeaders])
    // A body that comes with the head leaves with it; one that does not must not keep it (server-sent events).
    setImmediate(() => {
      if (!response.writableEnded && !response.destroyed) response.flushHeaders()
    })
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const isDrained = this.#decoder === undefined ? this.#write(chunk) : this.#decoder.write(chunk)
    if (!isDrained) controller.pause()
  }

  onResponseEnd(): void {
    if (this.#decoder === undefined) this.#finish()
    else this.#decoder.end()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#end(upstreamError(error, this.#target.origin))
  }

  /** @throws DeputyError `upstream_unreachable` for a coding that cannot be read */
  #createDecoder(coding: string, controller: Dispatcher.DispatchController): Transform {
    const decoder = createDecoder(coding, this.#target.origin)
    return decoder
      .on('data', (chunk: Buffer) => {
        if (!this.#write(chunk)) decoder.pause()
      })
      .on('drain', () => {
        controller.resume()
      })
      .on('end', () => {
        this.#finish()
      })
      .on('error', (error) => {
        controller.abort(error)
        this.#end(upstreamError(error, this.#target.origin))
      })
  }

  /** @returns false when the caller takes no more for now */
  #write(chunk: Buffer): boolean {
    const shown = this.#redaction === undefined ? chunk : this.#redaction.write(chunk)
    return shown.length === 0 || this.#target.response.write(shown)
  }

  #finish(): void {
    this.#target.response.end(this.#redaction?.end())
  }

  #end(failure?: unknown): void {
    if (this.#isOver) return
    this.#isOver = true
    const { response, settle } = this.#target
    if (failure === undefined) {
      settle()
      return
    }
    this.#decoder?.destroy()
    if (response.headersSent || response.destroyed) {
      response.destroy()
      settle()
    } else settle(failure)
  }
}

/**
 * Sends a request and passes the answer on as it comes, each side no faster than the other takes it. Resolves when the
 * answer is over; when the caller goes away, the request ends.
 * @throws DeputyError of `upstreamError`, until the answer has begun; after that a failure ends the connection
 */
export const relay = (
  upstream: Pick<Upstream, 'send'>,
  outgoing: UpstreamRequest,
  { request, response }: { readonly request: IncomingMessage; readonly response: ServerResponse },
  options: RelayOptions,
): Promise<void> =>
  new Promise((resolve, reject) => {
    const answer = new AnswerRelay({
      isHead: request.method === 'HEAD',
      response,
      origin: outgoing.origin,
      options,
      settle: (failure) => {
        if (failure === undefined) resolve()
        else reject(failure as Error)
      },
    })
    upstream.send(outgoing, answer)
  })
