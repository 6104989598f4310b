import type { Client, ClientBase } from 'pg'
import { type DeputyError, refuse } from '#errors'

/**
 * What each connection is set to with SET, because a pooler such as PgBouncer drops startup parameters or refuses them
 * (https://www.pgbouncer.org/config.html, `ignore_startup_parameters`). Durability rests on `synchronous_commit`: a write is on
 * the disk when it is answered, also where the default of the server, the database or the role is another.
 */
const REQUIRED = {
  synchronous_commit: 'on',
  default_transaction_isolation: 'read committed',
  timezone: 'UTC',
} as const

const SETTING_NAMES = Object.keys(REQUIRED) as (keyof typeof REQUIRED)[]

const notKept = (problem: string): DeputyError =>
  refuse('config_invalid', {
    problem: `${problem}. Connect Deputy to Postgres itself, or through a pooler in session mode (PgBouncer: pool_mode = session)`,
  })

/**
 * Sets a new connection up and reads back what durability rests on, in another statement than the one that set it.
 * @param deadline ms that a statement may take
 * @throws DeputyError `config_invalid` when the connection does not keep its settings
 */
export const prepareSession = async (client: ClientBase, deadline: number): Promise<void> => {
  const settings: Readonly<Record<string, string>> = {
    ...REQUIRED,
    statement_timeout: String(deadline),
    idle_in_transaction_session_timeout: String(deadline * 2),
  }
  const names = Object.keys(settings)
  await client.query(
    `select ${names.map((_, at) => `set_config($${2 * at + 1}, $${2 * at + 2}, false)`).join(', ')}`,
    names.flatMap((name) => [name, settings[name]!]),
  )
  const { rows } = await client.query<Record<string, string>>(
    `select ${SETTING_NAMES.map((name) => `current_setting('${name}') as ${name}`).join(', ')}`,
  )
  for (const name of SETTING_NAMES)
    if (rows[0]?.[name] !== REQUIRED[name])
      throw notKept(
        `the connection to Postgres does not keep its settings: ${name} is ${rows[0]?.[name] ?? 'not known'} after it was set to ${REQUIRED[name]}`,
      )
}

const pidOf = async (client: ClientBase): Promise<number> =>
  (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid

/** The process that the server named at the start of the connection (BackendKeyData); a pooler names one of its own. */
const announcedPid = (client: Client): unknown => (client as unknown as { processID?: unknown }).processID

/** How often two connections are compared: a pooler may hand out its connections in any order. */
const ROUNDS = 4

/**
 * Two connections of one client at a time have two server processes, and each keeps its own. A pooler that gives a server's
 * connection away between transactions would lose settings, locks and notifications without a word.
 * @throws DeputyError `config_invalid` with what is wrong with the pooler
 */
export const assertSessionMode = async (connect: () => Client): Promise<void> => {
  const [one, two] = [connect(), connect()]
  // An error of a connection that is being closed is none of the check's.
  for (const client of [one, two]) client.on('error', () => undefined)
  try {
    await one.connect()
    const pid = await pidOf(one)
    if (announcedPid(one) === pid) return
    await two.connect()
    for (let round = 0; round < ROUNDS; round += 1) {
      await two.query('begin')
      const other = await pidOf(two)
      const again = await pidOf(one)
      await two.query('rollback')
      if (other === pid || again !== pid)
        throw notKept(
          'the pooler in front of Postgres is in transaction mode, in which a connection keeps no settings, locks and notifications',
        )
    }
  } catch (error) {
    const { message } = error as Error
    if (/transaction blocks not allowed|Query read timeout|query_wait_timeout/i.test(message))
      throw notKept(
        `the pooler in front of Postgres does not give Deputy two connections with transactions of their own (${message.slice(0, 120)})`,
      )
    throw error
  } finally {
    await Promise.all([one, two].map((client) => client.end().catch(() => undefined)))
  }
}
