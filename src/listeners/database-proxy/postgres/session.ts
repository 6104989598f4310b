import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Random } from '#clock'
import { type DeputyError, refuse } from '#errors'
import type { OpenedConnection } from '#flows/exchange'
import type { DatabaseClient } from '../client.ts'
import type { DialOptions } from '../dial.ts'
import type { DatabaseSession } from '../listener.ts'
import { monitorSession, openConnection, type DatabaseProxyDependencies, type Opened } from '../opening.ts'
import { BrokenConnection } from '../reader.ts'
import { relay } from '../relay.ts'
import { Activity } from './activity.ts'
import type { CancelKey, CancelKeys } from './cancel-keys.ts'
import { ADMIN_SHUTDOWN, formatError } from './errors.ts'
import { cancel, isLoginRejected, logIn, type LoggedIn, type PostgresAddress } from './login.ts'
import { authenticationOk, backendKeyData, negotiateVersion } from './messages.ts'
import type { StartupMessage } from './startup.ts'

export interface PostgresSessionOptions extends DatabaseProxyDependencies, DialOptions {
  readonly uidOf: (socket: Socket) => number | undefined
  readonly random: Random
}

/** Longer than any id of a downstream (characters). */
const MAX_NAME_LENGTH = 64
/** Bytes of a ReadyForQuery message, with which every greeting ends. */
const READY_BYTES = 6

/**
 * Pauses before each request to cancel a query of a connection that has ended (ms). A server that has not read the
 * query yet ignores the request, and runs the query afterwards.
 */
const CANCEL_PAUSES_MS = [0, 200, 1000, 3000]

/** Values of `replication` that ask for none. */
const NO_REPLICATION = ['false', 'off', 'no', '0', '']

/** The downstream that a client names. As libpq has it, without a database its name is the user's. @throws DeputyError */
const downstreamOf = ({ parameters }: StartupMessage): string => {
  if (!NO_REPLICATION.includes(parameters.get('replication') ?? ''))
    throw refuse('malformed_request', { problem: 'replication does not go through Deputy' })
  return (parameters.get('database') ?? parameters.get('user') ?? '').slice(0, MAX_NAME_LENGTH)
}

const addressOf = ({ downstream }: OpenedConnection): PostgresAddress => {
  const address = 'postgres' in downstream ? downstream.postgres : undefined
  if (address === undefined)
    throw refuse('database_not_offered', { kind: 'postgres', downstream: downstream.downstream })
  return address
}

/** A client's connection that is logged in at its server. */
class PostgresSession implements DatabaseSession {
  readonly #client: DatabaseClient
  readonly #opened: Opened<LoggedIn>
  readonly #options: PostgresSessionOptions
  readonly #activity = new Activity()

  constructor(client: DatabaseClient, opened: Opened<LoggedIn>, options: PostgresSessionOptions) {
    this.#client = client
    this.#opened = opened
    this.#options = options
  }

  endIfIdle(): boolean {
    if (!this.#activity.isIdle) return false
    this.#end(refuse('draining', { seconds: 1 }))
    return true
  }

  /** Greets the client and passes bytes both ways until one side closes or a revocation ends it. @throws DeputyError, BrokenConnection */
  async run(startup: StartupMessage, cancelKeys: CancelKeys): Promise<void> {
    const { socket: client } = this.#client
    const { socket: upstream, rest, key } = this.#opened.login
    const cancelKey =
      key === undefined
        ? undefined
        : cancelKeys.add({
            uid: this.#options.uidOf(client),
            address: addressOf(this.#opened.connection),
            upstream: key,
          })
    let stopMonitoring = (): void => undefined
    try {
      stopMonitoring = monitorSession(this.#opened, this.#options, (error) => {
        // The query at the server ends as well, not only its answer.
        if (!this.#activity.isIdle && key !== undefined) void this.#cancelQuery(key)
        this.#end(error)
      })
      if (client.destroyed) throw new BrokenConnection('the client has gone')
      this.#trackIdle()
      this.#client.onSession(this)
      this.#greet(startup, cancelKey)
      const fromClient = this.#client.takeRest()
      this.#activity.fromClient(fromClient)
      this.#activity.fromServer(rest)
      await relay(client, upstream, { fromClient, fromUpstream: rest })
    } finally {
      stopMonitoring()
      if (cancelKey !== undefined) cancelKeys.remove(cancelKey)
      upstream.destroy()
    }
  }

  #trackIdle(): void {
    this.#opened.login.socket.on('data', (chunk: Buffer) => {
      this.#activity.fromServer(chunk)
    })
    this.#client.socket.on('data', (chunk: Buffer) => {
      this.#activity.fromClient(chunk)
    })
  }

  /** What the server has sent since the login, with Deputy's cancel key in place of the server's. */
  #greet({ minor, extensions }: StartupMessage, cancelKey: CancelKey | undefined): void {
    const { greeting } = this.#opened.login
    this.#client.socket.write(
      Buffer.concat([
        ...(minor > 0 || extensions.length > 0 ? [negotiateVersion(extensions)] : []),
        authenticationOk,
        greeting.subarray(0, -READY_BYTES),
        ...(cancelKey === undefined ? [] : [backendKeyData(cancelKey.process, cancelKey.key)]),
        greeting.subarray(-READY_BYTES),
      ]),
    )
  }

  #end(error: DeputyError): void {
    const { socket, correlationId } = this.#client
    // While the server is within an answer, a message of ours would be taken for a part of it.
    if (this.#activity.isIdle) socket.end(formatError(error, correlationId, ADMIN_SHUTDOWN))
    else socket.destroy()
    this.#opened.login.socket.destroy()
  }

  async #cancelQuery(key: NonNullable<LoggedIn['key']>): Promise<void> {
    const { connection } = this.#opened
    for (const pause of CANCEL_PAUSES_MS) {
      await sleep(pause, undefined, { ref: false })
      await cancel(addressOf(connection), key, this.#options).catch((error: unknown) => {
        this.#options.logger.warn(
          { err: error, downstream: connection.downstream.downstream },
          'query cancellation failed; the query of a connection that has ended may still run',
        )
      })
    }
  }
}

/** Logs a client in at the server of its downstream, and serves the connection to its end. @throws DeputyError, BrokenConnection */
export const servePostgresClient = async (
  client: DatabaseClient,
  startup: StartupMessage,
  cancelKeys: CancelKeys,
  options: PostgresSessionOptions,
): Promise<void> => {
  const downstream = downstreamOf(startup)
  const opened = await openConnection(
    { socket: client.socket, correlationId: client.correlationId, downstream },
    {
      logIn: (connection) =>
        logIn(
          connection.token,
          { downstream, address: addressOf(connection), parameters: startup.parameters },
          options,
        ),
      isRejected: isLoginRejected,
    },
    options,
  )
  await new PostgresSession(client, opened, options).run(startup, cancelKeys)
}
