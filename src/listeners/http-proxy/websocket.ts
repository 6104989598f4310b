import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import {
  codingOf,
  withoutSecrets,
  createRedaction,
  passedOn,
  rawHeadersOf,
  unreadable,
  type Upstream,
  upstreamError,
  type UpstreamRequest,
} from '#flows/injected-request'
import { endConnection, headOf } from './answer.ts'
import type { RelayOptions } from './relay.ts'

const NO_HEADERS = new Set<string>()
/** The answer ends with the connection, so it needs no length. */
const LENGTH_HEADERS = new Set(['content-length'])

/**
 * Passes on the bytes of each side, and its end. When one side breaks off the other one is closed; when nothing comes
 * from either for `idle` ms, both are.
 */
const join = (left: Duplex, right: Duplex, idle: number): void => {
  const timer = setTimeout(() => {
    left.destroy()
    right.destroy()
  }, idle)
  for (const [side, other] of [
    [left, right],
    [right, left],
  ] as const) {
    if ('setTimeout' in side) (side as Socket).setTimeout(0)
    side
      .on('error', () => {
        other.destroy()
      })
      .once('close', () => {
        if (!side.readableEnded) other.destroy()
        if (other.closed) clearTimeout(timer)
      })
    side.pipe(other)
    side.on('data', () => {
      timer.refresh()
    })
  }
}

/**
 * A WebSocket (RFC 6455): the handshake is a request like others; the bytes after it are passed on unchanged, in both
 * directions. The answer of a service that accepts none is passed on.
 * @throws DeputyError of `upstreamError`, until the answer has begun
 */
export const relayUpgrade = (
  upstream: Pick<Upstream, 'send'>,
  outgoing: UpstreamRequest,
  { socket, head }: { readonly socket: Duplex; readonly head: Buffer },
  options: RelayOptions & { idleTimeout: number; patience: number },
): Promise<void> =>
  new Promise((resolve, reject) => {
    const redaction = options.redact ? createRedaction(options.needles) : undefined
    let hasBegun = false
    const begin = (
      status: number,
      message: string,
      headers: readonly string[],
      connection: readonly string[],
    ): void => {
      hasBegun = true
      const [words, ...shown] = withoutSecrets([message, ...headers], options.needles)
      socket.write(headOf(status, words!, [...connection, ...shown, ...options.addedHeaders]), 'latin1')
    }
    upstream.send(outgoing, {
      onRequestStart(controller) {
        const stop = (): void => {
          controller.abort(new Error('the caller has gone away'))
        }
        // It may begin a while after it was sent: when there is a connection, or another proof.
        if (socket.destroyed) stop()
        else socket.once('close', stop)
      },
      onRequestUpgrade(controller, status, _headers, other) {
        begin(status, STATUS_CODES[status] ?? '', passedOn(rawHeadersOf(controller), NO_HEADERS), [
          'Connection',
          'Upgrade',
          'Upgrade',
          'websocket',
        ])
        if (head.length > 0) other.write(head)
        join(socket, other, options.idleTimeout)
        resolve()
      },
      onResponseStart(controller, status, _parsed, message) {
        if (status < 200) return
        const coding = codingOf(rawHeadersOf(controller))
        if (options.redact && coding !== '') throw unreadable(outgoing.origin, coding)
        begin(status, message ?? STATUS_CODES[status] ?? '', passedOn(rawHeadersOf(controller), LENGTH_HEADERS), [
          'Connection',
          'close',
        ])
        socket.on('drain', () => {
          controller.resume()
        })
      },
      onResponseData(controller, chunk) {
        if (!socket.write(redaction?.write(chunk) ?? chunk)) controller.pause()
      },
      onResponseEnd() {
        endConnection(socket, redaction?.end(), options.patience)
        resolve()
      },
      onResponseError(_controller, error) {
        if (hasBegun || socket.destroyed) {
          socket.destroy()
          resolve()
        } else reject(upstreamError(error, outgoing.origin))
      },
    })
  })
