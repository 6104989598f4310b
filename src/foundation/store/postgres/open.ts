import { Kysely } from 'kysely'
import type { Pool } from 'pg'
import { refuse } from '#errors'
import { migrate, schemaVersion, SCHEMA_VERSION } from '../migrations/index.ts'
import { recordStores } from '../queries/all.ts'
import type { Atomically, Batch, ColumnTypes, Database, Tables } from '../schema.ts'
import type { Store } from '../store.ts'
import { postgresDialect } from './dialect.ts'
import { createAppendAfter } from './append-after.ts'
import { nextPosition } from '../queries/revocations.ts'
import { createCluster } from './cluster.ts'
import { readDurability, type Durability } from './durability.ts'
import { assertSessionMode } from './session.ts'
import { createStandingWriter } from './standing-writer.ts'
import { createClient, createPool, inTransaction, isConstraint, toStoreError, type PostgresOptions } from './pool.ts'

const COLUMN_TYPES: ColumnTypes = {
  bytes: 'bytea',
  counter: 'bigint',
  instant: 'bigint',
  randomText: 'gen_random_uuid()::text',
}

/** Names the lock under which the schema is changed (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS). */
const MIGRATION_LOCK = 0x6465_7075

/** Connections of a node for leases and orders; one more listens. */
const LEASE_CONNECTIONS = 3

/** Parameters of one statement at most: they are counted in 16 bits. */
const PARAMETERS = 65_535

const insertInto = (table: string, columns: readonly string[], rows: number): string => {
  const tuple = (row: number): string => `(${columns.map((_, at) => `$${row * columns.length + at + 1}`).join(', ')})`
  return `insert into "${table}" (${columns.map((column) => `"${column}"`).join(', ')}) values ${Array.from({ length: rows }, (_, row) => tuple(row)).join(', ')}`
}

interface Within {
  readonly database: Database
  readonly insert: Batch
}

const insertBy =
  (query: (text: string, values: unknown[]) => Promise<unknown>): Batch =>
  async (table, columns, rows) => {
    const atOnce = Math.floor(PARAMETERS / columns.length)
    for (let from = 0; from < rows.length; from += atOnce) {
      const part = rows.slice(from, from + atOnce)
      await query(insertInto(table, columns, part.length), part.flat())
    }
  }

const checkMode = async (options: PostgresOptions): Promise<void> => {
  try {
    await assertSessionMode(() => createClient(options))
  } catch (error) {
    throw toStoreError(error)
  }
}

/** Work on the tables within one transaction, on connections of its own. */
export const withPostgres = async <T>(
  options: PostgresOptions,
  work: (within: Within, run: (text: string, values?: unknown[]) => Promise<unknown>) => Promise<T>,
): Promise<T> => {
  const pool = createPool({ ...options, pool: 2 })
  try {
    await checkMode(options)
    return await inTransaction(pool, (client) => {
      const run = (text: string, values: unknown[] = []): Promise<unknown> => client.query(text, values)
      return work({ database: new Kysely<Tables>({ dialect: postgresDialect(client) }), insert: insertBy(run) }, run)
    })
  } finally {
    await pool.end()
  }
}

/** The version of the schema that a server has; 0 for an empty database. */
export const postgresVersion = (options: PostgresOptions): Promise<number> =>
  withPostgres(options, ({ database }) => schemaVersion(database))

/** Whether a fail-over of a server loses what it has confirmed. @throws DeputyError `store_unavailable` */
export const postgresDurability = async (options: PostgresOptions): Promise<Durability> => {
  const client = createClient(options)
  client.on('error', () => undefined)
  try {
    await client.connect()
    return await readDurability(client)
  } catch (error) {
    throw toStoreError(error)
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** Brings the schema of a server to this program's version; of several that try, one does it. @returns the version that it had */
export const migratePostgres = (options: PostgresOptions): Promise<{ from: number; to: number }> =>
  withPostgres(options, async ({ database }, run) => {
    await run('select pg_advisory_xact_lock($1)', [MIGRATION_LOCK])
    const from = await schemaVersion(database)
    // The transaction is the lock's: a migration that is interrupted has not happened.
    await migrate(
      database,
      async (queries) => {
        for (const { sql, parameters } of queries) await run(sql, [...parameters])
      },
      COLUMN_TYPES,
    )
    return { from, to: SCHEMA_VERSION }
  })

/** @throws DeputyError `store_unavailable` when the server does not answer, or its schema is not this program's */
export const openPostgresStore = async (options: PostgresOptions & { node: string }): Promise<Store> => {
  const pool = createPool(options)
  // Renewals and orders of admins must not wait behind the requests that they are about.
  const leases = createPool({ ...options, pool: LEASE_CONNECTIONS })
  const close = async (): Promise<void> => {
    await Promise.all([pool.end(), leases.end()])
  }
  const database = new Kysely<Tables>({ dialect: postgresDialect(pool) })
  const atomicallyOn =
    (connections: Pool): Atomically =>
    (queries) =>
      inTransaction(connections, async (client) => {
        for (const { sql, parameters } of queries) await client.query(sql, [...parameters])
      })
  const atomically = atomicallyOn(pool)
  const orders = new Kysely<Tables>({ dialect: postgresDialect(leases) })
  const batch: Batch = async (table, columns, rows) => {
    // One statement is a transaction by itself.
    if (rows.length * columns.length > PARAMETERS)
      return inTransaction(pool, (client) =>
        insertBy((text, values) => client.query(text, values))(table, columns, rows),
      )
    try {
      return await insertBy((text, values) => pool.query(text, values))(table, columns, rows)
    } catch (error) {
      throw toStoreError(error)
    }
  }
  try {
    await checkMode(options)
    const found = await schemaVersion(database)
    if (found !== SCHEMA_VERSION) {
      throw refuse('store_unavailable', {
        problem:
          found < SCHEMA_VERSION
            ? `its schema is of version ${found}, this program needs ${SCHEMA_VERSION}; run: deputy store migrate`
            : `it was written by a newer Deputy (schema ${found}, this one knows ${SCHEMA_VERSION})`,
      })
    }
  } catch (error) {
    await close()
    throw toStoreError(error)
  }
  return {
    ...recordStores({
      database,
      reading: database,
      atomically,
      batch,
      revocationIndex: createStandingWriter(
        { database: orders, atomically: atomicallyOn(leases), pool: leases },
        COLUMN_TYPES.randomText,
      ),
      isConstraint: (error) => isConstraint(error) || (error as { code?: string }).code === 'conflict',
      appendAfter: createAppendAfter(pool),
      node: options.node,
    }),
    cluster: createCluster(
      { pool, leases, positionAbove: (number) => nextPosition(database, COLUMN_TYPES.randomText, number) },
      () => createClient(options),
    ),
    async ping() {
      try {
        await pool.query('select 1')
      } catch (error) {
        throw toStoreError(error)
      }
    },
    close,
  }
}
