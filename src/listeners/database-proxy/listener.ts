import { createServer, type Server, type Socket } from 'node:net'
import { listenAt, type SocketPlace } from '#foundation/files'

/** A connection that is logged in and passes bytes. */
export interface DatabaseSession {
  /** Ends it when nothing is under way in it. @returns false when something is */
  endIfIdle(): boolean
}

export interface DatabaseListener {
  readonly address: string
  /** Accepts no more connections, lets those that are busy finish for at most `patience` ms, then ends the rest. */
  close(patience: number): Promise<void>
}

/** Connections at the same time. */
const MAX_CONNECTIONS = 1000
/** How often idle sessions are looked for while the listener closes (ms). */
const IDLE_INTERVAL_MS = 50

/**
 * Listens on a Unix socket for clients of a database.
 * @param options.accept serves one connection; what it throws ends that connection only
 */
export const openDatabaseListener = async (
  options: SocketPlace & {
    readonly capturePeer: (socket: Socket) => void
    readonly accept: (socket: Socket, onSession: (session: DatabaseSession) => void) => Promise<void>
  },
): Promise<DatabaseListener> => {
  const connections = new Map<Socket, DatabaseSession | undefined>()
  const server: Server = createServer({ noDelay: true }, (socket) => {
    options.capturePeer(socket)
    connections.set(socket, undefined)
    socket.once('close', () => {
      connections.delete(socket)
    })
    socket.on('error', () => {
      /* it closes then */
    })
    options
      .accept(socket, (session) => {
        if (connections.has(socket)) connections.set(socket, session)
      })
      .catch(() => {
        socket.destroy()
      })
  })
  server.maxConnections = MAX_CONNECTIONS
  await listenAt(server, options)
  return {
    address: options.path,
    async close(patience) {
      const closed = new Promise<void>((resolve) => {
        server.close(() => {
          resolve()
        })
      })
      const idle = setInterval(() => {
        for (const session of connections.values()) session?.endIfIdle()
      }, IDLE_INTERVAL_MS)
      const end = setTimeout(() => {
        for (const socket of connections.keys()) socket.destroy()
      }, patience)
      await closed
      clearInterval(idle)
      clearTimeout(end)
    },
  }
}
