import type { Socket } from 'node:net'
import { join } from 'node:path'
import type { CurrentSnapshot, Downstream } from '#config'
import { asDeputyError, type DeputyError, type ErrorCategory, refuse } from '#errors'
import type { DialOptions } from '../dial.ts'
import { openDatabaseListener, type DatabaseListener, type DatabaseSession } from '../listener.ts'
import { live, open, type DatabaseProxyDependencies } from '../opening.ts'
import { createReader } from '../reader.ts'
import { relay } from '../relay.ts'
import { isNotTaken, logIn, type RedisAddress } from './login.ts'

/** The first word of an error, by which clients tell kinds apart. */
const WORDS: Readonly<Partial<Record<ErrorCategory, string>>> = {
  workload: 'NOAUTH',
  subject: 'NOAUTH',
  grant: 'NOAUTH',
  revocation: 'NOAUTH',
  policy: 'NOPERM',
}
const shown = (error: DeputyError, correlationId: string): string =>
  `-${WORDS[error.kind.category] ?? 'ERR'} Deputy: ${error.message} Next: ${error.code === 'internal' ? '' : `${error.next} `}deputy explain ${correlationId}`
    .replace(/[\r\n]+/g, ' ')
    .concat('\r\n')

export interface RedisListenersOptions extends DatabaseProxyDependencies, DialOptions {
  readonly snapshot: CurrentSnapshot
  /** Folder of the sockets. */
  readonly folder: string
  readonly mode: number
  readonly group?: number | undefined
  readonly capturePeer: (socket: Socket) => void
  /** How long a client may take to send its first command (ms), where there is an error to be answered. */
  readonly headerTimeout: number
}

const addressOf = (downstream: Downstream): RedisAddress | undefined =>
  'redis' in downstream && downstream.enabled ? downstream.redis : undefined

/**
 * Redis through Deputy: a socket for each downstream with a Redis server, named after it, so that a client needs neither user nor
 * password. The kernel says who connects, Deputy logs in at the server, and from then on bytes are passed both ways.
 */
export const createRedisListeners = (options: RedisListenersOptions) => {
  const listeners = new Map<string, DatabaseListener>()
  let turn: Promise<void> = Promise.resolve()

  const connectFor = async (
    client: Socket,
    downstream: string,
    given: { rest: () => Buffer },
    correlationId: string,
    enter: (session: DatabaseSession) => void,
  ): Promise<void> => {
    const opened = await open(
      client,
      downstream,
      correlationId,
      options,
      (connection) => {
        const address = addressOf(connection.downstream)
        if (address === undefined) throw refuse('database_not_offered', { kind: 'redis', downstream })
        return logIn(connection.token, { downstream, address }, options)
      },
      isNotTaken,
    )
    const { socket: upstream, rest } = opened.login
    let over = (): void => undefined
    try {
      // A word that nobody has asked for would be taken for an answer: what has ended is closed.
      over = live(opened, options, () => {
        client.destroy()
        upstream.destroy()
      })
      let idle = true
      upstream.on('data', (chunk: Buffer) => {
        idle = chunk.subarray(-2).toString('latin1') === '\r\n'
      })
      client.on('data', () => {
        idle = false
      })
      enter({
        endIfIdle: () => {
          if (idle) client.end()
          return idle
        },
      })
      const fromClient = given.rest()
      if (fromClient.length > 0) idle = false
      if (!client.destroyed) await relay(client, upstream, { fromClient, fromUpstream: rest })
    } finally {
      over()
      upstream.destroy()
    }
  }

  const openFor = (downstream: string): Promise<DatabaseListener> =>
    openDatabaseListener({
      setting: 'listen.redis',
      path: join(options.folder, `${downstream}.sock`),
      mode: options.mode,
      group: options.group,
      capturePeer: options.capturePeer,
      async admit(client, enter) {
        const correlationId = options.correlationId()
        const reader = createReader(client)
        try {
          await connectFor(client, downstream, { rest: () => reader.release() }, correlationId, enter)
        } catch (thrown) {
          const error = asDeputyError(thrown)
          if (error.code === 'internal')
            options.logger.error(
              { err: error.cause, correlation_id: correlationId },
              'a database connection failed inside Deputy',
            )
          const timer = setTimeout(() => {
            client.destroy()
          }, options.headerTimeout)
          try {
            // It is the answer to the first command.
            await reader.some()
            client.end(shown(error, correlationId))
          } finally {
            clearTimeout(timer)
          }
        }
      },
    })

  return {
    /** Opens and closes what files say now. @throws DeputyError `start_failed` when a socket cannot be opened; the others are open then */
    reconcile(): Promise<void> {
      const done = turn.then(async () => {
        const wanted = new Set(
          [...options.snapshot().downstreams.values()]
            .filter((each) => addressOf(each) !== undefined)
            .map(({ downstream }) => downstream),
        )
        for (const [downstream, listener] of listeners)
          if (!wanted.has(downstream)) {
            listeners.delete(downstream)
            await listener.close(0)
          }
        for (const downstream of wanted)
          if (!listeners.has(downstream)) listeners.set(downstream, await openFor(downstream))
      })
      turn = done.catch(() => undefined)
      return done
    },
    async close(patience: number): Promise<void> {
      await turn
      await Promise.all([...listeners.values()].map((listener) => listener.close(patience)))
    },
  }
}
