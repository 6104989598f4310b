import type { IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough, Readable, type Transform } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import { refuse } from '#errors'
import { readBody } from '#listeners/http'
import { each, passedOn, type RawHeaders } from './headers.ts'
import { createStrike, needlesOf, type Needles, type Rewriter } from './rewriter.ts'
import { rawHeadersOf, unreadable, upstreamError, type Upstream, type UpstreamRequest } from './upstream.ts'

/** A body so short is read whole and sent in one piece with its head (bytes). */
const SHORT = 16_384

/**
 * Waits until a body is there, or of a long one the beginning: once a credential has been issued, nobody is waited for
 * before it is sent (promise 4).
 * @returns a short body
 * @throws DeputyError `malformed_request` for one that does not come
 */
export const arrivalOf = async (request: IncomingMessage): Promise<Buffer | undefined> => {
  if (!hasBody(request)) return undefined
  if (Number(request.headers['content-length']) <= SHORT) return readBody(request, SHORT)
  if (request.readableLength === 0)
    await new Promise<void>((resolve) => {
      const there = (): void => {
        request.off('readable', there).off('close', there)
        resolve()
      }
      request.on('readable', there).on('close', there)
    })
  if (request.destroyed) throw refuse('malformed_request', { problem: 'the request ended early' })
  return undefined
}

/** The body of a request on its way through a rewriter; null where it has none. @param arrived of `arrivalOf` */
export const bodyOf = (
  request: IncomingMessage,
  arrived: Buffer | undefined,
  rewriter: Rewriter | undefined,
): Readable | Buffer | null => {
  if (!hasBody(request)) return null
  if (arrived === undefined) return streamOf(request, rewriter)
  return rewriter === undefined ? arrived : Buffer.concat([rewriter.write(arrived), rewriter.end()])
}

/** RFC 9112 section 6: a request has a body if it says so. */
export const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0

/**
 * Apart from the request itself: when the service fails, the client ends the stream that it reads, and that must not end
 * the connection on which the caller waits for an answer.
 */
const streamOf = (request: IncomingMessage, rewriter: Rewriter | undefined): Readable => {
  const body = new Readable({
    read() {
      request.resume()
    },
    // Whoever ends it knows why; nobody listens for it any more. What the caller still sends is thrown away.
    destroy(_error, done) {
      request.off('data', onData).off('end', onEnd).resume()
      done(null)
    },
  })
  const onData = (chunk: Buffer): void => {
    const shown = rewriter === undefined ? chunk : rewriter.write(chunk)
    if (shown.length > 0 && !body.push(shown)) request.pause()
  }
  const onEnd = (): void => {
    const rest = rewriter?.end()
    if (rest !== undefined && rest.length > 0) body.push(rest)
    body.push(null)
  }
  request
    .on('data', onData)
    .on('end', onEnd)
    .once('close', () => {
      if (!request.readableEnded) body.destroy()
    })
    .pause()
  return body
}

const DECODERS = new Map<string, () => Transform>([
  ['gzip', createGunzip],
  ['x-gzip', createGunzip],
  ['deflate', createInflate],
  ['br', createBrotliDecompress],
  ['zstd', createZstdDecompress],
  ['identity', () => new PassThrough()],
])

/** Headers by which a caller would get an answer in which the secret could not be seen: compressed, or a part of it at a time. */
export const HIDING = new Set(['accept-encoding', 'range', 'if-range'])

/** The headers of an answer without the secrets: none may come back in them, also where bodies are left alone (threat 27). */
export const withoutSecrets = (headers: RawHeaders, needles: Needles): string[] => {
  const all = headers.join('\n')
  const found = needles.all.filter((needle) => all.includes(needle.toString('latin1')))
  if (found.length === 0) return [...headers]
  return headers.map((text) => {
    const strike = createStrike(needlesOf(found))
    return Buffer.concat([strike.write(Buffer.from(text, 'latin1')), strike.end()]).toString('latin1')
  })
}

/** How a body is encoded; several codings make a name of which there is no decoder. */
export const codingOf = (headers: RawHeaders): string =>
  [...each(headers)]
    .filter(([lower]) => lower === 'content-encoding')
    .map(([, , value]) => value.trim().toLowerCase())
    .join(',')

const HEADERS_OF_CODED = new Set([
  'content-encoding',
  'content-length',
  'digest',
  'content-digest',
  'repr-digest',
  'content-md5',
])
const NONE = new Set<string>()

export interface Relay {
  /** What must not come back. */
  readonly needles: Needles
  /** Whether bodies are searched for it. */
  readonly strike: boolean
  /** Headers that the answer gets from the proxy. */
  readonly ours: readonly string[]
}

/**
 * Sends a request and passes the answer on as it comes, each side no faster than the other takes it. Resolves when the
 * answer is over; when the caller goes away, the request ends.
 * @throws DeputyError of `upstreamError`, until the answer has begun; after that a failure ends the connection
 */
export const relay = (
  upstream: Pick<Upstream, 'send'>,
  outgoing: UpstreamRequest,
  request: IncomingMessage,
  response: ServerResponse,
  { needles, strike, ours }: Relay,
): Promise<void> =>
  new Promise((resolve, reject) => {
    let stop: ((reason: Error) => void) | undefined
    let decoder: Transform | undefined
    let rewriter: Rewriter | undefined
    let over = false
    const end = (failure?: unknown): void => {
      if (over) return
      over = true
      if (failure === undefined) {
        resolve()
        return
      }
      decoder?.destroy()
      if (response.headersSent || response.destroyed) {
        response.destroy()
        resolve()
      } else reject(failure)
    }
    response.once('close', () => {
      if (!response.writableFinished) stop?.(new Error('the caller has gone away'))
      end()
    })

    /** @returns false when the caller takes no more for now */
    const show = (chunk: Buffer): boolean => {
      const shown = rewriter === undefined ? chunk : rewriter.write(chunk)
      return shown.length === 0 || response.write(shown)
    }
    const finish = (): void => {
      response.end(rewriter?.end())
    }

    upstream.send(outgoing, {
      onRequestStart(controller) {
        stop = (reason) => {
          controller.abort(reason)
        }
        if (response.destroyed) stop(new Error('the caller has gone away'))
        response.on('drain', () => {
          if (decoder === undefined) controller.resume()
          else decoder.resume()
        })
      },
      onResponseStart(controller, status, _parsed, message) {
        if (status < 200) return
        const raw = rawHeadersOf(controller)
        const hasBody = request.method !== 'HEAD' && status !== 204 && status !== 304
        const coding = strike && hasBody ? codingOf(raw) : ''
        const isCoded = coding !== ''
        if (isCoded) {
          decoder = DECODERS.get(coding)?.()
          if (decoder === undefined) throw unreadable(outgoing.origin, coding)
          decoder
            .on('data', (chunk: Buffer) => {
              if (!show(chunk)) decoder!.pause()
            })
            .on('drain', () => {
              controller.resume()
            })
            .on('end', finish)
            .on('error', (error) => {
              controller.abort(error)
              end(upstreamError(error, outgoing.origin))
            })
        }
        if (strike && hasBody) rewriter = createStrike(needles)
        const [words, ...headers] = withoutSecrets(
          [message ?? '', ...passedOn(raw, isCoded ? HEADERS_OF_CODED : NONE)],
          needles,
        )
        response.writeHead(status, words === '' ? undefined : words, [...headers, ...ours])
        // A body that comes with the head leaves with it; one that does not must not keep it (server-sent events).
        setImmediate(() => {
          if (!response.writableEnded && !response.destroyed) response.flushHeaders()
        })
      },
      onResponseData(controller, chunk) {
        if (!(decoder === undefined ? show(chunk) : decoder.write(chunk))) controller.pause()
      },
      onResponseEnd() {
        if (decoder === undefined) finish()
        else decoder.end()
      },
      onResponseError(_controller, error) {
        end(upstreamError(error, outgoing.origin))
      },
    })
    response.once('finish', () => {
      end()
    })
  })
