import { createServer, type RequestListener, type Server } from 'node:http'
import type { Socket } from 'node:net'
import { refuse } from '../errors.ts'
import { listenAt, listening } from '../unix-socket.ts'

export interface ListenerLimits {
  /** ms until the headers must be there. */
  readonly headerTimeout: number
  /** ms until the whole request must be there. */
  readonly requestTimeout: number
}

export interface Listener {
  readonly address: string
  /** The port of a TCP listener. */
  readonly port?: number
  /** Stops accepting, lets requests under way finish for at most `patience` ms, then ends what is left. */
  close(patience: number): Promise<void>
}

const MAX_HEADER = 16_384
/** How often node looks for clients that are over their time (ms). */
const CHECK = 1000

const createHttpServer = (onRequest: RequestListener, limits: ListenerLimits): Server => {
  const server = createServer({
    headersTimeout: limits.headerTimeout, requestTimeout: limits.requestTimeout, connectionsCheckingInterval: CHECK,
    maxHeaderSize: MAX_HEADER, keepAliveTimeout: 60_000, requireHostHeader: true,
  }, onRequest)
  // Half-closed sockets and garbage instead of HTTP: answered briefly, never kept.
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (error.code === 'ECONNRESET' || !socket.writable) { socket.destroy(); return }
    const status = error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? '408 Request Timeout' : error.code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : '400 Bad Request'
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
  })
  return server
}

const closing = async (server: Server, patience: number): Promise<void> => {
  const closed = new Promise<void>((resolve) => { server.close(() => { resolve() }) })
  // A kept-alive connection becomes idle when its last answer has left: look again until all are gone.
  const idle = setInterval(() => { server.closeIdleConnections() }, 50)
  const end = setTimeout(() => { server.closeAllConnections() }, patience)
  server.closeIdleConnections()
  await closed
  clearInterval(idle)
  clearTimeout(end)
}

/** Listens on a Unix socket. @throws DeputyError `config_invalid`, as `listenAt` */
export const listenOnSocket = async (onRequest: RequestListener, options: ListenerLimits & { path: string; mode: number; group?: number; onConnection?: (socket: Socket) => void }): Promise<Listener> => {
  const server = createHttpServer(onRequest, options)
  if (options.onConnection !== undefined) server.on('connection', options.onConnection)
  await listenAt(server, options)
  return { address: options.path, close: (patience) => closing(server, patience) }
}

/** Listens on TCP. @throws DeputyError `config_invalid` when the address is taken */
export const listenOnPort = async (onRequest: RequestListener, options: ListenerLimits & { host: string; port: number }): Promise<Listener> => {
  const server = createHttpServer(onRequest, options)
  try { await listening(server, () => { server.listen(options.port, options.host) }) } catch (error) {
    throw refuse('config_invalid', { problem: `${options.host}:${options.port} cannot be listened on (${(error as NodeJS.ErrnoException).code})` }, error)
  }
  const bound = server.address()
  const port = typeof bound === 'object' && bound !== null ? bound.port : options.port
  return { address: `${options.host}:${port}`, port, close: (patience) => closing(server, patience) }
}
