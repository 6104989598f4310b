import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { listenAt, listenFailure, listening, type SocketPlace } from '#foundation/files'

export interface ListenerLimits {
  /** ms until the headers must be there. */
  readonly headerTimeout: number
  /** ms until the whole request must be there; 0: as long as it keeps coming. */
  readonly requestTimeout: number
  /** ms in which something must come or go while a request is under way; absent: for ever. */
  readonly idleTimeout?: number
  /** ms that an answer may take once the client has shut its sending side: it waits for it, or is gone. */
  readonly halfClosedTimeout?: number
  /** ms in which a client must take something of an answer that is complete; default 30 s. */
  readonly unreadTimeout?: number
  /** Bytes of the headers. */
  readonly maxHeader?: number
  readonly connections?: ConnectionHandlers
}

/** What a listener does that lets connections become something else than requests and answers. */
export interface ConnectionHandlers {
  /** @param adopt serves the connection inside a tunnel like any other connection */
  onConnect(request: IncomingMessage, socket: Duplex, head: Buffer, adopt: (inside: Duplex) => void): void
  onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void
  readonly onCheckContinue: RequestListener
}

export interface Listener {
  readonly address: string
  /** The port of a TCP listener. */
  readonly port?: number
  /** Stops accepting, lets requests in progress finish for at most `patience` ms, then ends the rest. */
  close(patience: number): Promise<void>
}

const MAX_HEADER_BYTES = 16_384
/** How often node looks for clients that are over their time (ms). */
const CHECK_INTERVAL_MS = 1000
/** How long an answer may take for a client that sends nothing more (ms). */
const HALF_CLOSED_MS = 30_000
/** How long a client may take nothing of an answer that is complete, and in memory (ms). */
const UNREAD_MS = 30_000
/** How long a client whose request could not be read may take to end the connection (ms). */
const LINGER_MS = 1000

interface HttpServer {
  readonly server: Server
  /** Connections that no longer are the server's. */ readonly taken: Set<Duplex>
}

const destroyAfter = (socket: Duplex, ms: number): void => {
  if (socket.destroyed) return
  const timer = setTimeout(() => {
    socket.destroy()
  }, ms).unref()
  socket.once('close', () => {
    clearTimeout(timer)
  })
}

/**
 * Has a client take a complete answer piece by piece, or ends the connection: the answer takes memory for as long. Node resets
 * the time when the answer is out, and counts each piece that the kernel takes.
 */
const limitUnread = (response: ServerResponse, ms: number): void => {
  const { socket } = response
  // The kernel has taken most answers by now.
  if (socket !== null && socket.writableLength > 0) socket.setTimeout(ms)
}

const createHttpServer = (onRequest: RequestListener, limits: ListenerLimits): HttpServer => {
  const taken = new Set<Duplex>()
  const server = createServer({
    // Clients offer other protocols (h2c) with requests that are to be answered all the same.
    shouldUpgradeCallback: ({ headers, method }) =>
      limits.connections !== undefined && method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket',
    headersTimeout: limits.headerTimeout,
    requestTimeout: limits.requestTimeout,
    connectionsCheckingInterval: CHECK_INTERVAL_MS,
    maxHeaderSize: limits.maxHeader ?? MAX_HEADER_BYTES,
    keepAliveTimeout: 60_000,
    requireHostHeader: true,
  })
  server.on('request', (_, response: ServerResponse) => {
    response.once('prefinish', () => {
      limitUnread(response, limits.unreadTimeout ?? UNREAD_MS)
    })
  })
  server.on('request', onRequest)
  // A client may shut its sending side and wait for the answer (RFC 9112 section 9.6); node ends both sides by default.
  Object.assign(server, { httpAllowHalfOpen: true })
  server.on('connection', (socket) => {
    socket.once('end', () => {
      if (!taken.has(socket)) destroyAfter(socket, limits.halfClosedTimeout ?? HALF_CLOSED_MS)
    })
  })
  // Garbage or silence instead of HTTP: answered briefly, never kept.
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (error.code === 'ECONNRESET' || !socket.writable) {
      socket.destroy()
      return
    }
    const status =
      error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? '408 Request Timeout'
        : error.code === 'HPE_HEADER_OVERFLOW'
          ? '431 Request Header Fields Too Large'
          : '400 Bad Request'
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    // A client that does not end its side would keep the descriptor.
    destroyAfter(socket, LINGER_MS)
  })
  server.timeout = limits.idleTimeout ?? 0
  const { connections } = limits
  if (connections !== undefined) {
    const take = (socket: Duplex): void => {
      taken.add(socket)
      socket.once('close', () => {
        taken.delete(socket)
      })
    }
    server.on('connect', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      take(socket)
      connections.onConnect(request, socket, head, (inside) => {
        server.emit('connection', inside)
      })
    })
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      take(socket)
      connections.onUpgrade(request, socket, head)
    })
    server.on('checkContinue', connections.onCheckContinue)
  }
  return { server, taken }
}

const closing = async ({ server, taken }: HttpServer, patience: number): Promise<void> => {
  const closed = new Promise<void>((resolve) => {
    server.close(() => {
      resolve()
    })
  })
  // A kept-alive connection becomes idle when its last answer has left: look again until all are gone.
  const idle = setInterval(() => {
    server.closeIdleConnections()
  }, 50)
  const end = setTimeout(() => {
    server.closeAllConnections()
    for (const socket of taken) socket.destroy()
  }, patience)
  server.closeIdleConnections()
  await closed
  clearInterval(idle)
  clearTimeout(end)
}

/** Listens on a Unix socket. @throws DeputyError `start_failed`, as `listenAt` */
export const listenOnSocket = async (
  onRequest: RequestListener,
  options: ListenerLimits & SocketPlace & { onConnection?: (socket: Socket) => void },
): Promise<Listener> => {
  const http = createHttpServer(onRequest, options)
  if (options.onConnection !== undefined) http.server.on('connection', options.onConnection)
  await listenAt(http.server, options)
  return { address: options.path, close: (patience) => closing(http, patience) }
}

/** Listens on TCP. @throws DeputyError `start_failed` when the kernel refuses, for example because the address is taken */
export const listenOnPort = async (
  onRequest: RequestListener,
  options: ListenerLimits & { setting: string; host: string; port: number },
): Promise<Listener> => {
  const http = createHttpServer(onRequest, options)
  const { server } = http
  try {
    await listening(server, () => {
      server.listen(options.port, options.host)
    })
  } catch (error) {
    throw listenFailure(error, { setting: options.setting, address: `${options.host}:${options.port}` })
  }
  const bound = server.address()
  const port = typeof bound === 'object' && bound !== null ? bound.port : options.port
  return { address: `${options.host}:${port}`, port, close: (patience) => closing(http, patience) }
}
