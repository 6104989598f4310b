import { createServer, type Server, type Socket } from 'node:net'
import { listenAt, type SocketPlace } from '#foundation/files'

/** A connection that goes through. */
export interface DatabaseSession {
  /** Ends it when nothing is under way in it. @returns false when something is */
  endIfIdle(): boolean
}

export interface DatabaseListener {
  readonly address: string
  /** Lets no more in, lets what is under way finish for at most `patience` ms, then ends what is left. */
  close(patience: number): Promise<void>
}

/** Connections at once. */
const MOST = 1000
const LOOK = 50

/**
 * A Unix socket at which programs come in.
 * @param options.admit serves one; what it throws ends that one alone
 */
export const openDatabaseListener = async (
  options: SocketPlace & {
    readonly capturePeer: (socket: Socket) => void
    readonly admit: (socket: Socket, enter: (session: DatabaseSession) => void) => Promise<void>
  },
): Promise<DatabaseListener> => {
  const inside = new Map<Socket, DatabaseSession | undefined>()
  const server: Server = createServer({ noDelay: true }, (socket) => {
    options.capturePeer(socket)
    inside.set(socket, undefined)
    socket.once('close', () => {
      inside.delete(socket)
    })
    socket.on('error', () => {
      /* it closes then */
    })
    options
      .admit(socket, (session) => {
        if (inside.has(socket)) inside.set(socket, session)
      })
      .catch(() => {
        socket.destroy()
      })
  })
  server.maxConnections = MOST
  await listenAt(server, options)
  return {
    address: options.path,
    async close(patience) {
      const closed = new Promise<void>((resolve) => {
        server.close(() => {
          resolve()
        })
      })
      const look = setInterval(() => {
        for (const session of inside.values()) session?.endIfIdle()
      }, LOOK)
      const end = setTimeout(() => {
        for (const socket of inside.keys()) socket.destroy()
      }, patience)
      await closed
      clearInterval(look)
      clearTimeout(end)
    },
  }
}
