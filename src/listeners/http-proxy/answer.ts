import { STATUS_CODES, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { DeputyError } from '#errors'
import { afterBody, errorAnswer, sendJson } from '#listeners/http'

/** Marks an answer of the proxy: a header of this name from the service is not forwarded. */
const MARK = 'Deputy-Error'

const refusal = (error: DeputyError, correlationId: string, isForward: boolean) => {
  const { status, body, headers } = errorAnswer(error, correlationId)
  // RFC 9110 section 15.5.8: a client of a proxy is challenged with 407 in place of 401.
  const asked = status === 401 && isForward
  return {
    status: asked ? 407 : status,
    body,
    headers: {
      ...headers,
      [MARK]: error.code,
      'Deputy-Correlation-Id': correlationId,
      ...(asked ? { 'Proxy-Authenticate': 'Basic realm="deputy", charset="UTF-8"' } : {}),
    },
  }
}

/**
 * Refuses a request. A client that is sending its body reads no answer until it has done so, for which it gets some
 * time; one that waits for 100 Continue is answered at once.
 * @param options.patience ms for the rest of the body
 */
export const sendRefusal = (
  response: ServerResponse,
  error: DeputyError,
  correlationId: string,
  options: { isForward: boolean; isWaiting: boolean; patience: number },
): void => {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const { status, body, headers } = refusal(error, correlationId, options.isForward)
  if (options.isWaiting) {
    sendJson(response, status, body, { ...headers, Connection: 'close' })
    return
  }
  const end = setTimeout(() => {
    response.req.destroy()
  }, options.patience)
  afterBody(response.req, () => {
    clearTimeout(end)
    sendJson(response, status, body, headers)
  })
}

/** The head of an answer on a bare connection. */
export const headOf = (status: number, message: string, headers: readonly string[]): string =>
  `HTTP/1.1 ${status} ${message}\r\n${Array.from({ length: headers.length / 2 }, (_, at) => `${headers[2 * at]}: ${headers[2 * at + 1]}\r\n`).join('')}\r\n`

/** Ends a bare connection after its last bytes. A client that keeps its side open has some time to read. */
export const endConnection = (socket: Duplex, last: string | Buffer | undefined, patience: number): void => {
  const timer = setTimeout(() => {
    socket.destroy()
  }, patience)
  socket
    .once('close', () => {
      clearTimeout(timer)
    })
    .resume()
  if (last === undefined) socket.end()
  else socket.end(last)
}

/** Refuses a CONNECT or an upgrade: there the answer is written to the connection itself, which then ends. */
export const refuseConnection = (
  socket: Duplex,
  error: DeputyError,
  correlationId: string,
  options: { isForward: boolean; patience: number },
): void => {
  if (!socket.writable) {
    socket.destroy()
    return
  }
  const { status, body, headers } = refusal(error, correlationId, options.isForward)
  const text = JSON.stringify(body)
  endConnection(
    socket,
    headOf(
      status,
      STATUS_CODES[status] ?? '',
      Object.entries({
        ...headers,
        'Content-Type': 'application/json',
        'Content-Length': String(Buffer.byteLength(text)),
        'Cache-Control': 'no-store',
        Connection: 'close',
      }).flat(),
    ) + text,
    options.patience,
  )
}

/** Whether a request comes by the forward form: named by a URL or through a tunnel, or asking for one. */
export const isForward = (request: IncomingMessage, isTunnelled: boolean): boolean =>
  isTunnelled || request.method === 'CONNECT' || request.url?.startsWith('/') === false
