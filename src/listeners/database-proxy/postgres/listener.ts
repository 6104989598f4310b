import { timingSafeEqual } from 'node:crypto'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import type { Random } from '#clock'
import { asDeputyError, type DeputyError, type ErrorCategory, refuse } from '#errors'
import type { OpenedConnection } from '#flows/exchange'
import type { DialOptions } from '../dial.ts'
import { openDatabaseListener, type DatabaseListener, type DatabaseSession } from '../listener.ts'
import { live, open, type DatabaseProxyDependencies } from '../opening.ts'
import { BrokenConnection, createReader } from '../reader.ts'
import { relay } from '../relay.ts'
import { cancel, isNotTaken, logIn, type LoggedIn, type PostgresAddress } from './login.ts'
import { authenticationOk, backendKeyData, endsReady, errorResponse, negotiateVersion } from './messages.ts'
import { readStartup, type StartupMessage } from './startup.ts'

/** As libpq looks for it in a folder: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-HOST */
const SOCKET = '.s.PGSQL.5432'

/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const SQLSTATE: Readonly<Partial<Record<ErrorCategory, string>>> = {
  request: '08P01',
  workload: '28000',
  subject: '28000',
  grant: '28000',
  revocation: '28000',
  policy: '42501',
  target: '3D000',
}
const sqlstateOf = (error: DeputyError): string => {
  if (error.code === 'database_unreachable') return '08006'
  if (error.code === 'database_refused') return '08004'
  return SQLSTATE[error.kind.category] ?? (error.kind.retryable ? '57P03' : 'XX000')
}
/** admin_shutdown: what a client that was connected is told. */
const ENDED = '57P01'

const shown = (error: DeputyError, correlationId: string, code = sqlstateOf(error)): Buffer =>
  errorResponse({
    code,
    message: `Deputy: ${error.message}`,
    hint:
      error.code === 'internal'
        ? `deputy explain ${correlationId}`
        : [error.next, ...('connect_url' in error.facts ? [String(error.facts['connect_url'])] : [])].join(' '),
    detail: `Correlation id ${correlationId}; deputy explain tells its story.`,
  })

export interface PostgresListenerOptions extends DatabaseProxyDependencies, DialOptions {
  /** Folder of the socket. */
  readonly folder: string
  readonly mode: number
  readonly group?: number | undefined
  readonly capturePeer: (socket: Socket) => void
  readonly uidOf: (socket: Socket) => number | undefined
  /** How long a client may take to say what it wants (ms). */
  readonly headerTimeout: number
  readonly random: Random
}

interface Session {
  readonly uid: number | undefined
  readonly key: number
  readonly address: PostgresAddress
  readonly upstream: NonNullable<LoggedIn['key']>
}

const keyBytes = (key: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(key | 0)
  return bytes
}

const addressOf = ({ downstream }: OpenedConnection): PostgresAddress => {
  const address = 'postgres' in downstream ? downstream.postgres : undefined
  if (address === undefined)
    throw refuse('database_not_offered', { kind: 'postgres', downstream: downstream.downstream })
  return address
}

/**
 * PostgreSQL through Deputy: a client connects to the Unix socket without a password, the kernel says who it is, `database`
 * names the downstream, and Deputy logs in at its server. From then on bytes are passed both ways.
 */
export const openPostgresListener = (options: PostgresListenerOptions): Promise<DatabaseListener> => {
  const sessions = new Map<number, Session>()
  /** Our own pair instead of the server's: two servers may give the same one. */
  const enrol = (session: Omit<Session, 'key'>): { process: number; key: number } => {
    let process: number
    do process = Buffer.from(options.random.bytes(4)).readUInt32BE() >>> 1
    while (sessions.has(process))
    const key = Buffer.from(options.random.bytes(4)).readInt32BE()
    sessions.set(process, { ...session, key })
    return { process, key }
  }

  const cancelFor = async (socket: Socket, { process, key }: { process: number; key: number }): Promise<void> => {
    const session = sessions.get(process)
    if (
      session === undefined ||
      session.uid !== options.uidOf(socket) ||
      !timingSafeEqual(keyBytes(session.key), keyBytes(key))
    )
      return
    await cancel(session.address, session.upstream, options)
  }

  const connectFor = async (
    client: Socket,
    { parameters, minor, extensions }: StartupMessage,
    given: { rest: () => Buffer },
    correlationId: string,
    enter: (session: DatabaseSession) => void,
  ): Promise<void> => {
    // As libpq has it: without a database its name is the user's. No id is longer than what is looked at.
    const named = (parameters.get('database') ?? parameters.get('user') ?? '').slice(0, 64)
    if (!['false', 'off', 'no', '0', ''].includes(parameters.get('replication') ?? ''))
      throw refuse('malformed_request', { problem: 'replication does not go through Deputy' })
    const opened = await open(
      client,
      named,
      correlationId,
      options,
      (connection) =>
        logIn(connection.token, { downstream: named, address: addressOf(connection), parameters }, options),
      isNotTaken,
    )
    const { socket: upstream, greeting, rest, key } = opened.login
    let idle = true
    const tell = (error: DeputyError): void => {
      // Where the server is within an answer, ours would be taken for a part of it.
      if (idle) client.end(shown(error, correlationId, ENDED))
      else client.destroy()
      upstream.destroy()
    }
    const stopQuery = async (about: NonNullable<LoggedIn['key']>): Promise<void> => {
      await cancel(addressOf(opened.connection), about, options).catch((error: unknown) => {
        options.logger.warn(
          { err: error, downstream: named },
          'a query of a connection that has ended was not cancelled',
        )
      })
    }
    let over = (): void => undefined
    const own =
      key === undefined
        ? undefined
        : enrol({ uid: options.uidOf(client), address: addressOf(opened.connection), upstream: key })
    try {
      over = live(opened, options, (error) => {
        // What the server is doing for it ends too, not only what it would answer.
        if (!idle && key !== undefined) void stopQuery(key)
        tell(error)
      })
      if (client.destroyed) throw new BrokenConnection('the client has gone')
      upstream.on('data', (chunk: Buffer) => {
        idle = endsReady(chunk)
      })
      client.on('data', () => {
        idle = false
      })
      enter({
        endIfIdle: () => {
          if (idle) tell(refuse('draining', { seconds: 1 }))
          return idle
        },
      })
      const ready = greeting.subarray(-6)
      client.write(
        Buffer.concat([
          ...(minor > 0 || extensions.length > 0 ? [negotiateVersion(extensions)] : []),
          authenticationOk,
          greeting.subarray(0, -6),
          ...(own === undefined ? [] : [backendKeyData(own.process, own.key)]),
          ready,
        ]),
      )
      const fromClient = given.rest()
      if (fromClient.length > 0) idle = false
      await relay(client, upstream, { fromClient, fromUpstream: rest })
    } finally {
      over()
      if (own !== undefined) sessions.delete(own.process)
      upstream.destroy()
    }
  }

  return openDatabaseListener({
    setting: 'listen.postgres',
    path: join(options.folder, SOCKET),
    mode: options.mode,
    group: options.group,
    capturePeer: options.capturePeer,
    async admit(client, enter) {
      const correlationId = options.correlationId()
      const timer = setTimeout(() => {
        client.destroy()
      }, options.headerTimeout)
      const reader = createReader(client)
      try {
        const first = await readStartup(reader, (bytes) => {
          client.write(bytes)
        })
        clearTimeout(timer)
        if (first.kind === 'cancel') {
          await cancelFor(client, first)
          client.destroy()
          return
        }
        await connectFor(client, first, { rest: () => reader.release() }, correlationId, enter)
      } catch (thrown) {
        const error =
          thrown instanceof BrokenConnection
            ? refuse('malformed_request', { problem: thrown.message })
            : asDeputyError(thrown)
        if (error.code === 'internal')
          options.logger.error(
            { err: error.cause, correlation_id: correlationId },
            'a database connection failed inside Deputy',
          )
        if (!client.destroyed) client.end(shown(error, correlationId))
      } finally {
        clearTimeout(timer)
      }
    },
  })
}
