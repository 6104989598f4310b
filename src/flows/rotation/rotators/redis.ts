import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { Random } from '#clock'
import type { RotatorSettingsOf } from '#config'
import type { Secret } from '#foundation/crypto'
import type { TlsMaterial } from '#foundation/files'
import type { ChoosingRotator } from '../rotator.ts'
import { loginText, newPassword, readLogin, type LoginSecret } from './login-secret.ts'

const digest = (password: string): string => createHash('sha256').update(password).digest('hex')
/** The server's own reply; empty for a failure of the connection. */
const replyOf = (error: unknown): string => (error instanceof Error && error.name === 'ReplyError' ? error.message : '')

/** Redis without an ACL file: then the change lasts as long as the server runs, unless CONFIG REWRITE keeps it. */
const NO_FILE = /not configured to use an ACL file|without a config file/i

interface RedisRotatorDependencies {
  readonly admin: () => Promise<Secret>
  readonly tls: () => Promise<boolean | TlsMaterial>
  readonly random: Random
  readonly timeout: number
}

/** Runs work over a connection that has logged in. */
type Connect = <T>(login: LoginSecret, work: (client: Redis) => Promise<T>) => Promise<T>

const connectTo =
  ({ host, port }: RotatorSettingsOf<'redis'>, { tls, timeout }: RedisRotatorDependencies): Connect =>
  async ({ username, password }, work) => {
    const material = await tls()
    // Loaded where a Redis user rotates: other daemons do not pay for it.
    const { Redis } = await import('ioredis')
    const client = new Redis({
      host,
      port,
      lazyConnect: true,
      retryStrategy: () => null,
      maxRetriesPerRequest: 0,
      connectTimeout: timeout,
      commandTimeout: timeout,
      enableReadyCheck: false,
      ...(material === false ? {} : { tls: material === true ? {} : material }),
    })
    client.on('error', () => undefined)
    try {
      await client.connect()
      // By hand: a login that fails in the driver is only an event.
      await client.auth(username, password)
      return await work(client)
    } finally {
      client.disconnect()
    }
  }

/** Saves the change for a restart of the server, in its ACL file or its configuration file. A server with neither forgets it. */
const save = async (client: Redis): Promise<void> => {
  try {
    await client.call('ACL', 'SAVE')
  } catch (error) {
    if (!NO_FILE.test(replyOf(error))) throw error
    try {
      await client.call('CONFIG', 'REWRITE')
    } catch (second) {
      if (!NO_FILE.test(replyOf(second))) throw second
    }
  }
}

/**
 * A Redis ACL user, who may have several passwords at once (https://redis.io/docs/latest/commands/acl-setuser/): the
 * new one is added, and the old one removed at the end. Digests are sent, not passwords (`#` and `!`).
 */
export const createRedisRotator = (
  how: RotatorSettingsOf<'redis'>,
  deps: RedisRotatorDependencies,
): ChoosingRotator => {
  const connect = connectTo(how, deps)
  const asAdmin = async <T>(work: (client: Redis) => Promise<T>): Promise<T> =>
    connect(readLogin(await deps.admin()), work)

  return {
    kind: 'redis',
    target: `${how.host}:${how.port}`,
    supportsDualSecrets: true,
    next: () => loginText({ username: how.user, password: newPassword(deps.random) }),
    async check() {
      await asAdmin(async (client) => {
        if ((await client.call('ACL', 'GETUSER', how.user)) === null)
          throw new Error(`the ACL user ${how.user} does not exist at ${how.host}:${how.port}`)
      })
    },
    async apply(_current, next) {
      await asAdmin(async (client) => {
        await client.call('ACL', 'SETUSER', how.user, 'on', `#${digest(readLogin(next).password)}`)
        await save(client)
      })
    },
    async login(value) {
      try {
        // Only the login: the user may have no command that could be tried.
        await connect(readLogin(value), () => Promise.resolve())
        return 'works'
      } catch (error) {
        if (/WRONGPASS|NOAUTH/.test(replyOf(error))) return 'refused'
        throw error
      }
    },
    async retire(old, current) {
      const [before, now] = [readLogin(old), readLogin(current)]
      if (before.username !== now.username || before.password === now.password) return
      await asAdmin(async (client) => {
        try {
          await client.call('ACL', 'SETUSER', how.user, `!${digest(before.password)}`)
        } catch (error) {
          // The server has removed it already.
          if (!/no such password|does not exist/i.test(replyOf(error))) throw error
        }
        await save(client)
      })
    },
  }
}
