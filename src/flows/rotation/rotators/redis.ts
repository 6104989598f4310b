import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { Random } from '#clock'
import type { RotatorSettingsOf } from '#config'
import type { Secret } from '#foundation/crypto'
import type { TlsMaterial } from '#foundation/files'
import type { ChoosingRotator } from '../rotator.ts'
import { loginText, newPassword, readLogin, type LoginSecret } from './login-secret.ts'

const digest = (password: string): string => createHash('sha256').update(password).digest('hex')
/** What the server itself has answered; empty for everything that happened on the way. */
const said = (error: unknown): string => (error instanceof Error && error.name === 'ReplyError' ? error.message : '')

/** Redis without an ACL file: then the change lasts as long as the server runs, unless CONFIG REWRITE keeps it. */
const NO_FILE = /not configured to use an ACL file|without a config file/i

/**
 * A Redis ACL user, who may have several passwords at once (https://redis.io/docs/latest/commands/acl-setuser/): the
 * new one is added, and the old one taken away at the end. Digests are sent, not passwords (`#` and `!`).
 */
export const createRedisRotator = (
  how: RotatorSettingsOf<'redis'>,
  deps: { admin: () => Promise<Secret>; tls: () => Promise<boolean | TlsMaterial>; random: Random; timeout: number },
): ChoosingRotator => {
  const connected = async <T>({ username, password }: LoginSecret, work: (client: Redis) => Promise<T>): Promise<T> => {
    const tls = await deps.tls()
    // Loaded where a Redis user rotates: no other daemon should pay for it.
    const { Redis } = await import('ioredis')
    const client = new Redis({
      host: how.host,
      port: how.port,
      lazyConnect: true,
      retryStrategy: () => null,
      maxRetriesPerRequest: 0,
      connectTimeout: deps.timeout,
      commandTimeout: deps.timeout,
      enableReadyCheck: false,
      ...(tls === false ? {} : { tls: tls === true ? {} : tls }),
    })
    client.on('error', () => undefined)
    try {
      await client.connect()
      // By hand: the error of a login that the driver does by itself is only an event.
      await client.auth(username, password)
      return await work(client)
    } finally {
      client.disconnect()
    }
  }
  const asAdmin = async <T>(work: (client: Redis) => Promise<T>): Promise<T> =>
    connected(readLogin(await deps.admin()), work)

  /** Survives a restart of the server: in its ACL file, or in its configuration file; a server with neither forgets, and is told again by nobody. */
  const save = async (client: Redis): Promise<void> => {
    try {
      await client.call('ACL', 'SAVE')
    } catch (error) {
      if (!NO_FILE.test(said(error))) throw error
      try {
        await client.call('CONFIG', 'REWRITE')
      } catch (second) {
        if (!NO_FILE.test(said(second))) throw second
      }
    }
  }

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
        // The login is all: the user may be allowed no command that could be tried.
        await connected(readLogin(value), () => Promise.resolve())
        return 'works'
      } catch (error) {
        if (/WRONGPASS|NOAUTH/.test(said(error))) return 'refused'
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
          // It is gone already.
          if (!/no such password|does not exist/i.test(said(error))) throw error
        }
        await save(client)
      })
    },
  }
}
