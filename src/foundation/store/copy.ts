import { sql } from 'kysely'
import { refuse } from '#errors'
import { migratePostgres, withPostgres } from './postgres/open.ts'
import type { PostgresOptions } from './postgres/pool.ts'
import type { Batch, Tables } from './schema.ts'
import { CHECKPOINT_COLUMNS, COLUMNS } from './queries/audit.ts'
import type { CopiedAudit } from './records/audit.ts'
import { SqliteConnection } from './sqlite/connection.ts'
import { openSqliteStore } from './sqlite/open.ts'

/** Everything but what is about nodes and servers: who runs on the new store is not who ran on the old one. */
const TABLES = [
  'epochs',
  'standing_history',
  'grants',
  'consents',
  'attempts',
  'sessions',
  'identity_tokens',
  'user_names',
  'clients',
  'client_sessions',
  'authorization_records',
  'secrets',
  'revocations',
  'disabled_users',
  'frozen_tenants',
  'replays',
  'unknown_callers',
  'signing_keys',
  'upstream_revocations',
  'rotation_targets',
  'rotations',
  'secret_holders',
  'leases',
  'backend_tokens',
  'audit_records',
  'audit_checkpoints',
  'audit_positions',
] as const satisfies readonly (keyof Tables)[]

const AT_ONCE = 1000
const DEADLINE = 30_000

/** https://www.sqlite.org/rowidtable.html: pages by the row's own number cost the same at the end of a table as at its start. */
async function* pagesOf(connection: SqliteConnection, table: string): AsyncIterable<Record<string, unknown>[]> {
  for (let last = 0; ;) {
    const { rows } = await connection.query(
      `select rowid as copied_row, * from "${table}" where rowid > ? order by rowid limit ?`,
      [last, AT_ONCE],
    )
    if (rows.length === 0) return
    last = Number(rows.at(-1)!['copied_row'])
    yield rows.map(({ copied_row: _, ...row }) => row)
  }
}

const insertAll = async <Column extends string>(
  insert: Batch,
  table: keyof Tables,
  columns: readonly Column[],
  rows: readonly Readonly<Record<Column, unknown>>[],
): Promise<void> => {
  for (let at = 0; at < rows.length; at += AT_ONCE)
    await insert(
      table,
      columns,
      rows.slice(at, at + AT_ONCE).map((row) => columns.map((column) => row[column])),
    )
}

/**
 * Copies an embedded store into an empty Postgres database, in one transaction: all of it or nothing. No daemon may run on
 * the embedded store meanwhile, and none can: the copy holds it. Brings both to this program's version first.
 * @param audit the audit log, where files hold it: what the tables have of it still is in the files as well
 * @returns how many rows each table had
 * @throws DeputyError `config_invalid` when a daemon holds the store or the database is not empty
 */
export const copyToPostgres = async (
  path: string,
  to: PostgresOptions,
  audit?: AsyncIterable<CopiedAudit>,
): Promise<Record<string, number>> => {
  await openSqliteStore({ path }).then((store) => store.close())
  const from = await SqliteConnection.open(path, DEADLINE)
  try {
    await migratePostgres(to)
    return await withPostgres(to, async ({ database, insert }) => {
      const copied: Record<string, number> = {}
      await sql`delete from epochs`.execute(database)
      await sql`delete from standing_history`.execute(database)
      for (const table of TABLES) {
        const { count } = await database
          .selectFrom(table)
          .select((eb) => eb.fn.countAll().as('count'))
          .executeTakeFirstOrThrow()
        if (Number(count) > 0)
          throw refuse('config_invalid', {
            problem: `the database has rows in its table ${table} already; copy into an empty one`,
          })
        copied[table] = 0
        if (audit !== undefined && table.startsWith('audit_')) continue
        for await (const rows of pagesOf(from, table)) {
          const columns = Object.keys(rows[0]!)
          await insert(
            table,
            columns,
            rows.map((row) => columns.map((column) => row[column])),
          )
          copied[table] += rows.length
        }
      }
      for await (const { node, records, checkpoints } of audit ?? []) {
        await insertAll(
          insert,
          'audit_records',
          COLUMNS,
          records.map((row) => ({ ...row, node })),
        )
        await insertAll(
          insert,
          'audit_checkpoints',
          CHECKPOINT_COLUMNS,
          checkpoints.map((row) => ({ ...row, node })),
        )
        copied['audit_records']! += records.length
        copied['audit_checkpoints']! += checkpoints.length
      }
      return copied
    })
  } finally {
    await from.close()
  }
}
