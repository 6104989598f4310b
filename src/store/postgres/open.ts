import { Kysely, sql } from 'kysely'
import { refuse } from '../../errors.ts'
import { migrate, schemaVersion, SCHEMA_VERSION } from '../migrations/index.ts'
import { recordStores } from '../queries/all.ts'
import { standingWriter } from '../queries/revocations.ts'
import type { Atomically, Batch, ColumnTypes, Tables } from '../schema.ts'
import type { Store } from '../store.ts'
import { postgresDialect } from './dialect.ts'
import { CHANNEL, createCluster } from './cluster.ts'
import { createClient, createPool, inTransaction, isConstraint, toStoreError, type PostgresOptions } from './pool.ts'

const COLUMN_TYPES: ColumnTypes = { bytes: 'bytea', counter: 'bigint', instant: 'bigint' }

/** Names the lock under which the schema is changed (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS). */
const MIGRATION_LOCK = 0x6465_7075

/** Parameters of one statement at most: they are counted in 16 bits. */
const PARAMETERS = 65_535

const insertInto = (table: string, columns: readonly string[], rows: number): string => {
  const tuple = (row: number): string => `(${columns.map((_, at) => `$${row * columns.length + at + 1}`).join(', ')})`
  return `insert into "${table}" (${columns.map((column) => `"${column}"`).join(', ')}) values ${Array.from({ length: rows }, (_, row) => tuple(row)).join(', ')}`
}

/** Brings the schema of a server to this program's version; of several that try, one does it. @returns the version that it had */
export const migratePostgres = async (options: PostgresOptions): Promise<{ from: number; to: number }> => {
  const pool = createPool({ ...options, pool: 2 })
  try {
    return await inTransaction(pool, async (client) => {
      await client.query('select pg_advisory_xact_lock($1)', [MIGRATION_LOCK])
      const database = new Kysely<Tables>({ dialect: postgresDialect(client as unknown as typeof pool) })
      const from = await schemaVersion(database)
      // The transaction is the lock's: a migration that is interrupted has not happened.
      await migrate(database, async (queries) => { for (const { sql, parameters } of queries) await client.query(sql, [...parameters]) }, COLUMN_TYPES)
      return { from, to: SCHEMA_VERSION }
    })
  } finally { await pool.end() }
}

/** @throws DeputyError `store_unavailable` when the server does not answer, or its schema is not this program's */
export const openPostgresStore = async (options: PostgresOptions & { node: string }): Promise<Store> => {
  const pool = createPool(options)
  const database = new Kysely<Tables>({ dialect: postgresDialect(pool) })
  const atomically: Atomically = (queries) => inTransaction(pool, async (client) => {
    for (const { sql, parameters } of queries) await client.query(sql, [...parameters])
  })
  const batch: Batch = async (table, columns, rows) => {
    const atOnce = Math.floor(PARAMETERS / columns.length)
    const insert = async (client: { query(text: string, values: unknown[]): Promise<unknown> }, from: number): Promise<void> => {
      const part = rows.slice(from, from + atOnce)
      await client.query(insertInto(table, columns, part.length), part.flat())
    }
    // One statement is a transaction by itself.
    if (rows.length <= atOnce) { try { await insert(pool, 0) } catch (error) { throw toStoreError(error) } return }
    await inTransaction(pool, async (client) => { for (let from = 0; from < rows.length; from += atOnce) await insert(client, from) })
  }
  try {
    const found = await schemaVersion(database)
    if (found !== SCHEMA_VERSION) {
      throw refuse('store_unavailable', { problem: found < SCHEMA_VERSION ? `its schema is of version ${found}, this program needs ${SCHEMA_VERSION}; run: deputy store migrate` : `it was written by a newer Deputy (schema ${found}, this one knows ${SCHEMA_VERSION})` })
    }
  } catch (error) { await pool.end(); throw toStoreError(error) }
  return {
    ...recordStores({
      database, reading: database, atomically, batch, standing: standingWriter(database, atomically, [sql`select pg_notify(${CHANNEL}, '')`.compile(database)]),
      isConstraint: (error) => isConstraint(error) || (error as { code?: string }).code === 'conflict', node: options.node,
    }),
    cluster: createCluster(pool, () => createClient(options)),
    async ping() { try { await pool.query('select 1') } catch (error) { throw toStoreError(error) } },
    async close() { await pool.end() },
  }
}
