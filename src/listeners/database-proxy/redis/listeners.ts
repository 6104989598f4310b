import type { Socket } from 'node:net'
import { join } from 'node:path'
import type { CurrentSnapshot } from '#config'
import { asDeputyError, type DeputyError, type ErrorCategory } from '#errors'
import { openDatabaseListener, type DatabaseListener, type DatabaseSession } from '../listener.ts'
import { createReader, type Reader } from '../reader.ts'
import { addressOf, serveRedisClient, type RedisSessionOptions } from './session.ts'

/** The first word of an error, by which clients tell kinds apart. */
const ERROR_WORDS: Readonly<Partial<Record<ErrorCategory, string>>> = {
  workload: 'NOAUTH',
  subject: 'NOAUTH',
  grant: 'NOAUTH',
  revocation: 'NOAUTH',
  policy: 'NOPERM',
}

const formatError = (error: DeputyError, correlationId: string): string =>
  `-${ERROR_WORDS[error.kind.category] ?? 'ERR'} Deputy: ${error.message} Next: ${error.code === 'internal' ? '' : `${error.next} `}deputy explain ${correlationId}`
    .replace(/[\r\n]+/g, ' ')
    .concat('\r\n')

export interface RedisListenersOptions extends RedisSessionOptions {
  readonly snapshot: CurrentSnapshot
  /** Folder of the sockets. */
  readonly folder: string
  readonly mode: number
  readonly group?: number | undefined
  readonly capturePeer: (socket: Socket) => void
  /** How long a client may take to send its first command (ms), when there is an error to be sent in answer. */
  readonly headerTimeout: number
}

/** Sends a refusal as the answer to the client's first command. @throws BrokenConnection when the client sends none */
const sendRefusal = async (
  socket: Socket,
  reader: Reader,
  text: string,
  { headerTimeout }: Pick<RedisListenersOptions, 'headerTimeout'>,
): Promise<void> => {
  const timer = setTimeout(() => {
    socket.destroy()
  }, headerTimeout)
  try {
    await reader.some()
    socket.end(text)
  } finally {
    clearTimeout(timer)
  }
}

const accept = async (
  socket: Socket,
  onSession: (session: DatabaseSession) => void,
  downstream: string,
  options: RedisListenersOptions,
): Promise<void> => {
  const correlationId = options.correlationId()
  const reader = createReader(socket)
  try {
    const client = { socket, correlationId, takeRest: () => reader.release(), onSession }
    await serveRedisClient(client, downstream, options)
  } catch (thrown) {
    const error = asDeputyError(thrown)
    if (error.code === 'internal')
      options.logger.error(
        { err: error.cause, correlation_id: correlationId },
        'a database connection failed inside Deputy',
      )
    await sendRefusal(socket, reader, formatError(error, correlationId), options)
  }
}

const openListener = (downstream: string, options: RedisListenersOptions): Promise<DatabaseListener> =>
  openDatabaseListener({
    setting: 'listen.redis',
    path: join(options.folder, `${downstream}.sock`),
    mode: options.mode,
    group: options.group,
    capturePeer: options.capturePeer,
    accept: (socket, onSession) => accept(socket, onSession, downstream, options),
  })

/**
 * Redis through Deputy: a socket for each downstream with a Redis server, named after it, so that a client needs neither user nor
 * password. The kernel identifies the client, Deputy logs in at the server, and from then on bytes are passed both ways.
 */
export const createRedisListeners = (options: RedisListenersOptions) => {
  const listeners = new Map<string, DatabaseListener>()
  let lastReconciliation: Promise<void> = Promise.resolve()

  const reconcileNow = async (): Promise<void> => {
    const configured = new Set(
      [...options.snapshot().downstreams.values()]
        .filter((each) => addressOf(each) !== undefined)
        .map(({ downstream }) => downstream),
    )
    for (const [downstream, listener] of listeners)
      if (!configured.has(downstream)) {
        listeners.delete(downstream)
        await listener.close(0)
      }
    for (const downstream of configured)
      if (!listeners.has(downstream)) listeners.set(downstream, await openListener(downstream, options))
  }

  return {
    /** Opens and closes sockets by the current files. @throws DeputyError `start_failed` when one cannot be opened; the others are open then */
    reconcile(): Promise<void> {
      const done = lastReconciliation.then(reconcileNow)
      lastReconciliation = done.catch(() => undefined)
      return done
    },
    async close(patience: number): Promise<void> {
      await lastReconciliation
      await Promise.all([...listeners.values()].map((listener) => listener.close(patience)))
    },
  }
}
