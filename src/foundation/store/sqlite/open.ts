import { Kysely } from 'kysely'
import { refuse } from '#errors'
import { countWrites } from '../counted-secrets.ts'
import { migrate } from '../migrations/index.ts'
import { recordStores } from '../queries/all.ts'
import { standingWriter } from '../queries/revocations.ts'
import type { Atomically, Batch, ColumnTypes, Tables } from '../schema.ts'
import type { Store } from '../store.ts'
import { ConstraintError, SqliteConnection } from './connection.ts'
import { sqliteDialect } from './dialect.ts'
import type { StoreWrite } from '../records/store-write.ts'
import type { BoundStatement, SqlValue } from './protocol.ts'

const DEADLINE = 5000

/** The embedded store has one node. */
const NODE = 'local'

const COLUMN_TYPES: ColumnTypes = {
  bytes: 'blob',
  counter: 'integer',
  instant: 'bigint',
  randomText: 'hex(randomblob(16))',
}

const insertInto = (table: string, columns: readonly string[]): string =>
  `insert into "${table}" (${columns.map((column) => `"${column}"`).join(', ')}) values (${columns.map(() => '?').join(', ')})`

/** The version of the schema that a file has, also while a daemon holds it. */
export const sqliteVersion = async (path: string): Promise<number> => {
  const connection = await SqliteConnection.open(path, DEADLINE, 'reader')
  try {
    const { rows } = await connection.query('select max(version) as version from schema_version', [])
    return Number(rows[0]?.['version'] ?? 0)
  } finally {
    await connection.close()
  }
}

/**
 * Opens the embedded store: one SQLite file, held by one process.
 * @param options.path file; made with mode 0600 if it is missing
 * @param options.deadline ms in which every call must be answered; default 5000
 * @throws DeputyError `start_failed` when another process holds it, `store_unavailable` when it cannot be opened
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
    try {
      return await reader
    } catch (error) {
      reader = undefined
      throw error
    }
  }
  const reading = new Kysely<Tables>({
    dialect: sqliteDialect({ query: async (sql, parameters) => (await openReader()).query(sql, parameters) }),
  })

  const bound = ({ sql, parameters }: StoreWrite['statements'][number]): BoundStatement => ({
    sql,
    rows: [parameters as readonly SqlValue[]],
  })
  const atomically: Atomically = async (queries) => {
    try {
      await connection.transaction(queries.map(bound))
    } catch (error) {
      throw error instanceof ConstraintError ? refuse('conflict', { what: 'record' }, error) : error
    }
  }
  const batch: Batch = (table, columns, rows, also = []) =>
    connection.transaction([
      { sql: insertInto(table, columns), rows: rows as readonly (readonly SqlValue[])[] },
      ...also.flatMap(({ statements }) => statements.map(bound)),
    ])

  try {
    await migrate(database, atomically, COLUMN_TYPES)
  } catch (error) {
    await connection.close()
    throw error
  }
  const stores = recordStores({
    database,
    reading,
    atomically,
    batch,
    revocationIndex: standingWriter(database, atomically, COLUMN_TYPES),
    isConstraint: (error) => error instanceof ConstraintError,
    node: NODE,
  })
  return {
    ...stores,
    // The file is locked: no other process writes it.
    secrets: countWrites(stores.secrets),
    async ping() {
      await connection.query('select 1', [])
    },
    async close() {
      closed = true
      // The last one to close tidies up the files, so that must be the one that may write.
      await reader?.then(
        (opened) => opened.close(),
        () => undefined,
      )
      await connection.close()
    },
  }
}
