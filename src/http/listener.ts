import { createServer, type RequestListener, type Server } from 'node:http'
import { chmod, chown, lstat, mkdir, unlink } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { refuse } from '../errors.ts'

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

const listening = (server: Server, start: () => void): Promise<void> => new Promise((resolve, reject) => {
  server.once('error', reject)
  server.once('listening', () => { server.off('error', reject); resolve() })
  start()
})

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

/** True when somebody answers on the socket: then it is in use and must not be taken away. */
const isAnswered = (path: string): Promise<boolean> => new Promise((resolve) => {
  const probe: Socket = connect(path)
  probe.once('connect', () => { probe.destroy(); resolve(true) })
  probe.once('error', () => { resolve(false) })
})

/**
 * Listens on a Unix socket. A socket file that nobody answers on is left over from a killed daemon and is replaced.
 * @param options.mode file mode, set before anybody can connect: the folder is private until then
 * @throws DeputyError `config_invalid` when another program answers there, or the path is no socket
 */
export const listenOnSocket = async (onRequest: RequestListener, options: ListenerLimits & { path: string; mode: number; group?: number; onConnection?: (socket: Socket) => void }): Promise<Listener> => {
  const { path } = options
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const found = await lstat(path).catch(() => undefined)
  if (found !== undefined) {
    if (!found.isSocket()) throw refuse('config_invalid', { problem: `${path} exists and is no socket` })
    if (await isAnswered(path)) throw refuse('config_invalid', { problem: `another program answers on ${path}` })
    await unlink(path)
  }
  const server = createHttpServer(onRequest, options)
  if (options.onConnection !== undefined) server.on('connection', options.onConnection)
  const before = process.umask(0o177)
  try { await listening(server, () => { server.listen(path) }) } finally { process.umask(before) }
  if (options.group !== undefined) await chown(path, -1, options.group)
  await chmod(path, options.mode)
  return { address: path, close: (patience) => closing(server, patience) }
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
