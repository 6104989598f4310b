import { createHash, createHmac, pbkdf2 as pbkdf2Callback } from 'node:crypto'
import { promisify } from 'node:util'
import { Client, DatabaseError } from 'pg'
import type { Random } from '#clock'
import type { RotatorSettingsOf } from '#config'
import { within } from '#foundation/async'
import type { Secret } from '#foundation/crypto'
import type { TlsMaterial } from '#foundation/files'
import type { ChoosingRotator } from '../rotator.ts'
import { loginText, newPassword, readLogin, type LoginSecret } from './login-secret.ts'

const pbkdf2 = promisify(pbkdf2Callback)

/** What Postgres stores of a password (RFC 5803; https://www.postgresql.org/docs/current/catalog-pg-authid.html): sent instead of the password, it is in no log of the server. */
export const scramVerifier = async (password: string, salt: Uint8Array, iterations = 4096): Promise<string> => {
  const salted = await pbkdf2(password, salt, iterations, 32, 'sha256')
  const hmac = (text: string): Buffer => createHmac('sha256', salted).update(text).digest()
  const storedKey = createHash('sha256').update(hmac('Client Key')).digest('base64')
  return `SCRAM-SHA-256$${iterations}:${Buffer.from(salt).toString('base64')}$${storedKey}:${hmac('Server Key').toString('base64')}`
}

/** invalid_password and invalid_authorization_specification (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
const REFUSED = new Set(['28P01', '28000'])

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

/**
 * PostgreSQL roles. `alternating`: two roles in turn, so that the old one works until it is retired. `single`: one role,
 * whose old password ends when the new one begins (https://www.postgresql.org/docs/current/sql-alterrole.html).
 */
export const createPostgresRotator = (
  how: RotatorSettingsOf<'postgres'>,
  deps: { admin: () => Promise<Secret>; tls: () => Promise<boolean | TlsMaterial>; random: Random; timeout: number },
): ChoosingRotator => {
  const { host, port, database, roles, strategy } = how
  const connected = async <T>(
    { username, password }: LoginSecret,
    work: (client: Client) => Promise<T>,
  ): Promise<T> => {
    const tls = await deps.tls()
    const client = new Client({
      host,
      port,
      database,
      user: username,
      password,
      application_name: 'deputy rotation',
      connectionTimeoutMillis: deps.timeout,
      query_timeout: deps.timeout,
      statement_timeout: deps.timeout,
      ssl: tls === false ? false : { ...(tls === true ? {} : tls), rejectUnauthorized: true },
    })
    client.on('error', () => undefined)
    try {
      await client.connect()
      return await work(client)
    } finally {
      // A server that is silent from now on does not say good-bye either.
      await within(deps.timeout, client.end(), () => new Error('late')).catch(() => undefined)
    }
  }
  const asAdmin = async <T>(work: (client: Client) => Promise<T>): Promise<T> =>
    connected(readLogin(await deps.admin()), work)

  return {
    kind: 'postgres',
    target: `${host}:${port}`,
    supportsDualSecrets: strategy === 'alternating',
    next(current) {
      const before = current === undefined ? undefined : readLogin(current).username
      return loginText({
        username: roles.find((role) => role !== before) ?? roles[0]!,
        password: newPassword(deps.random),
      })
    },
    async check(_current, next) {
      const { username } = readLogin(next)
      await asAdmin(async (client) => {
        const { rowCount } = await client.query('select 1 from pg_roles where rolname = $1', [username])
        if (rowCount === 0) throw new Error(`the role ${username} does not exist at ${host}:${port}`)
      })
    },
    async apply(_current, next) {
      const { username, password } = readLogin(next)
      const verifier = await scramVerifier(password, deps.random.bytes(16))
      // A verifier is base64 and punctuation without quotes; a statement of this kind takes no parameters.
      await asAdmin((client) => client.query(`alter role ${quoted(username)} with login password '${verifier}'`))
    },
    async login(value) {
      try {
        await connected(readLogin(value), (client) => client.query('select 1'))
        return 'works'
      } catch (error) {
        if (error instanceof DatabaseError && REFUSED.has(error.code ?? '')) return 'refused'
        throw error
      }
    },
    async retire(old, current) {
      const [before, now] = [readLogin(old).username, readLogin(current).username]
      // The one role has its new password already.
      if (before !== now) await asAdmin((client) => client.query(`alter role ${quoted(before)} with password null`))
    },
  }
}
