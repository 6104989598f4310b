import type { Downstream } from '#config'
import { refuse } from '#errors'
import type { DatabaseClient } from '../client.ts'
import type { DialOptions } from '../dial.ts'
import { monitorSession, openConnection, type DatabaseProxyDependencies, type Opened } from '../opening.ts'
import { relay } from '../relay.ts'
import { isLoginRejected, logIn, type LoggedIn, type RedisAddress } from './login.ts'

export type RedisSessionOptions = DatabaseProxyDependencies & DialOptions

/** The Redis server of a downstream; undefined when it has none or is disabled. */
export const addressOf = (downstream: Downstream): RedisAddress | undefined =>
  'redis' in downstream && downstream.enabled ? downstream.redis : undefined

/** Passes bytes both ways until one side closes or a revocation ends the connection. @throws DeputyError when one has already */
const run = async (client: DatabaseClient, opened: Opened<LoggedIn>, options: RedisSessionOptions): Promise<void> => {
  const { socket } = client
  const { socket: upstream, rest } = opened.login
  let stopMonitoring = (): void => undefined
  try {
    // An error that answers no command would be taken for the answer to the next one, so the connection is closed without.
    stopMonitoring = monitorSession(opened, options, () => {
      socket.destroy()
      upstream.destroy()
    })
    let isIdle = true
    upstream.on('data', (chunk: Buffer) => {
      isIdle = chunk.subarray(-2).toString('latin1') === '\r\n'
    })
    socket.on('data', () => {
      isIdle = false
    })
    client.onSession({
      endIfIdle: () => {
        if (isIdle) socket.end()
        return isIdle
      },
    })
    const fromClient = client.takeRest()
    if (fromClient.length > 0) isIdle = false
    if (!socket.destroyed) await relay(socket, upstream, { fromClient, fromUpstream: rest })
  } finally {
    stopMonitoring()
    upstream.destroy()
  }
}

/** Logs a client in at the server of a downstream, and serves the connection to its end. @throws DeputyError */
export const serveRedisClient = async (
  client: DatabaseClient,
  downstream: string,
  options: RedisSessionOptions,
): Promise<void> => {
  const opened = await openConnection(
    { socket: client.socket, correlationId: client.correlationId, downstream },
    {
      logIn: (connection) => {
        const address = addressOf(connection.downstream)
        if (address === undefined) throw refuse('database_not_offered', { kind: 'redis', downstream })
        return logIn(connection.token, { downstream, address }, options)
      },
      isRejected: isLoginRejected,
    },
    options,
  )
  await run(client, opened, options)
}
