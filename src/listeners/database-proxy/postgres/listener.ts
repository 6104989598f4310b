import type { Socket } from 'node:net'
import { join } from 'node:path'
import { asDeputyError, type DeputyError, refuse } from '#errors'
import { openDatabaseListener, type DatabaseListener, type DatabaseSession } from '../listener.ts'
import { BrokenConnection, createReader } from '../reader.ts'
import { CancelKeys } from './cancel-keys.ts'
import { formatError } from './errors.ts'
import { cancel } from './login.ts'
import { servePostgresClient, type PostgresSessionOptions } from './session.ts'
import { readStartup, type CancelMessage } from './startup.ts'

/** As libpq looks for it in a folder: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-HOST */
const SOCKET = '.s.PGSQL.5432'

export interface PostgresListenerOptions extends PostgresSessionOptions {
  /** Folder of the socket. */
  readonly folder: string
  readonly mode: number
  readonly group?: number | undefined
  readonly capturePeer: (socket: Socket) => void
  /** How long a client may take for its startup message (ms). */
  readonly headerTimeout: number
}

/** What was thrown, as the error that the client receives. Failures inside Deputy are logged with their cause. */
const asRefusal = (
  thrown: unknown,
  correlationId: string,
  { logger }: Pick<PostgresListenerOptions, 'logger'>,
): DeputyError => {
  if (thrown instanceof BrokenConnection) return refuse('malformed_request', { problem: thrown.message })
  const error = asDeputyError(thrown)
  if (error.code === 'internal')
    logger.error({ err: error.cause, correlation_id: correlationId }, 'a database connection failed inside Deputy')
  return error
}

/** Cancels the query of a session of the same Unix user. A key that is unknown is ignored, as by a server. */
const cancelQuery = async (
  socket: Socket,
  message: CancelMessage,
  cancelKeys: CancelKeys,
  options: PostgresListenerOptions,
): Promise<void> => {
  const target = cancelKeys.find(message, options.uidOf(socket))
  if (target !== undefined) await cancel(target.address, target.upstream, options)
}

const accept = async (
  socket: Socket,
  onSession: (session: DatabaseSession) => void,
  cancelKeys: CancelKeys,
  options: PostgresListenerOptions,
): Promise<void> => {
  const correlationId = options.correlationId()
  const timer = setTimeout(() => {
    socket.destroy()
  }, options.headerTimeout)
  const reader = createReader(socket)
  try {
    const first = await readStartup(reader, (bytes) => {
      socket.write(bytes)
    })
    clearTimeout(timer)
    if (first.kind === 'cancel') {
      await cancelQuery(socket, first, cancelKeys, options)
      socket.destroy()
      return
    }
    const client = { socket, correlationId, takeRest: () => reader.release(), onSession }
    await servePostgresClient(client, first, cancelKeys, options)
  } catch (thrown) {
    const error = asRefusal(thrown, correlationId, options)
    if (!socket.destroyed) socket.end(formatError(error, correlationId))
  } finally {
    clearTimeout(timer)
  }
}

/**
 * PostgreSQL through Deputy: a client connects to the Unix socket without a password, the kernel identifies it, `database`
 * names the downstream, and Deputy logs in at its server. From then on bytes are passed both ways.
 */
export const openPostgresListener = (options: PostgresListenerOptions): Promise<DatabaseListener> => {
  const cancelKeys = new CancelKeys(options.random)
  return openDatabaseListener({
    setting: 'listen.postgres',
    path: join(options.folder, SOCKET),
    mode: options.mode,
    group: options.group,
    capturePeer: options.capturePeer,
    accept: (socket, onSession) => accept(socket, onSession, cancelKeys, options),
  })
}
