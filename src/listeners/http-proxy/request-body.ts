import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { refuse } from '#errors'
import type { Rewriter } from '#flows/injected-request'
import { readBody } from '#listeners/http'

/** A body of at most this size is read whole and sent in one piece with its head (bytes). */
const SHORT_BODY_BYTES = 16_384

/**
 * Waits until a body is there, or of a long one the beginning: once a credential has been issued, it is sent without
 * waiting for the caller (promise 4).
 * @returns a short body
 * @throws DeputyError `malformed_request` for one that does not come
 */
export const arrivalOf = async (request: IncomingMessage): Promise<Buffer | undefined> => {
  if (!hasBody(request)) return undefined
  if (Number(request.headers['content-length']) <= SHORT_BODY_BYTES) return readBody(request, SHORT_BODY_BYTES)
  if (request.readableLength === 0)
    await new Promise<void>((resolve) => {
      const onArrival = (): void => {
        request.off('readable', onArrival).off('close', onArrival)
        resolve()
      }
      request.on('readable', onArrival).on('close', onArrival)
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
    // The side that ends it knows why. What the caller still sends is discarded.
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
