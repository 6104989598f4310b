import { Kysely } from 'kysely'
import { refuse } from '../../errors.ts'
import { migrate } from '../migrations/index.ts'
import { attemptStore } from '../queries/attempts.ts'
import { auditStore } from '../queries/audit.ts'
import { replayStore, unknownCallerStore } from '../queries/callers.ts'
import { consentStore } from '../queries/consents.ts'
import { grantStore } from '../queries/grants.ts'
import { disabledUserStore, revocationStore } from '../queries/revocations.ts'
import { secretStore } from '../queries/secrets.ts'
import { sessionStore } from '../queries/sessions.ts'
import { signingKeyStore } from '../queries/signing-keys.ts'
import { upstreamRevocationStore } from '../queries/upstream-revocations.ts'
import type { Atomically, Batch, Tables } from '../schema.ts'
import type { Store } from '../store.ts'
import { ConstraintError, SqliteConnection } from './connection.ts'
import { sqliteDialect } from './dialect.ts'
import type { SqlValue } from './protocol.ts'

const DEADLINE = 5000

/**
 * Opens the embedded store: one SQLite file, held by one process.
 * @param options.path file; made with mode 0600 if it is missing
 * @param options.deadline ms in which every call must be answered; default 5000
 * @throws DeputyError `config_invalid` when another process holds it, `store_unavailable` when it cannot be opened
 */
export const openSqliteStore = async (options: { path: string; deadline?: number }): Promise<Store> => {
  const connection = await SqliteConnection.open(options.path, options.deadline ?? DEADLINE)
  const database = new Kysely<Tables>({ dialect: sqliteDialect(connection) })

  // A search through the audit log has a thread of its own, from the first one on.
  let reader: Promise<SqliteConnection> | undefined
  let closed = false
  const openReader = async (): Promise<SqliteConnection> => {
    if (closed) throw refuse('store_unavailable', { problem: 'the store is closed' })
    reader ??= SqliteConnection.open(options.path, options.deadline ?? DEADLINE, 'reader')
    try { return await reader } catch (error) { reader = undefined; throw error }
  }
  const reading = new Kysely<Tables>({ dialect: sqliteDialect({ query: async (sql, parameters) => (await openReader()).query(sql, parameters) }) })

  const atomically: Atomically = async (queries) => {
    try {
      await connection.transaction(queries.map(({ sql, parameters }) => ({ sql, rows: [parameters as readonly SqlValue[]] })))
    } catch (error) {
      throw error instanceof ConstraintError ? refuse('conflict', { what: 'record' }, error) : error
    }
  }
  const batch: Batch = (query, rows) => connection.transaction([{ sql: query.sql, rows: rows as readonly (readonly SqlValue[])[] }])

  try { await migrate(database, atomically) } catch (error) { await connection.close(); throw error }
  return {
    grants: grantStore(database), consents: consentStore(database), attempts: attemptStore(database), sessions: sessionStore(database),
    secrets: secretStore(database, atomically), revocations: revocationStore(database), disabledUsers: disabledUserStore(database),
    replays: replayStore(database), unknownCallers: unknownCallerStore(database), signingKeys: signingKeyStore(database),
    upstreamRevocations: upstreamRevocationStore(database),
    audit: auditStore(database, reading, batch, (error) => error instanceof ConstraintError),
    async ping() { await connection.query('select 1', []) },
    async close() {
      closed = true
      // The last one to close tidies up the files, so that must be the one that may write.
      await reader?.then((opened) => opened.close(), () => undefined)
      await connection.close()
    },
  }
}
