import { sql, type CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/**
 * A history has a name as well as numbers: each change of the standing and each renewal leaves a token, so that a store that has
 * lost its last commits is told from one that has not. `store_servers` has the processes of the server that nodes have seen, and
 * `store_losses` what was lost, until a person has acknowledged it.
 */
export const histories = (database: Database, types: ColumnTypes): CompiledQuery[] => {
  const { schema } = database
  return [
    schema.alterTable('epochs').addColumn('token', 'text').compile(),
    sql`update epochs set token = ${sql.raw(types.randomText)} where name = 'standing'`.compile(database),
    schema
      .createTable('standing_history')
      .addColumn('number', 'bigint', (column) => column.primaryKey())
      .addColumn('token', 'text', (column) => column.notNull())
      .compile(),
    sql`insert into standing_history (number, token) select value, token from epochs where name = 'standing'`.compile(
      database,
    ),
    schema.alterTable('nodes').addColumn('seen_token', 'text').compile(),
    schema.alterTable('nodes').addColumn('token', 'text').compile(),
    schema
      .createTable('store_servers')
      .addColumn('identity', 'text', (column) => column.primaryKey())
      .addColumn('first_seen', types.instant, (column) => column.notNull())
      .compile(),
    schema
      .createTable('store_losses')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('node', 'text', (column) => column.notNull())
      .addColumn('at', types.instant, (column) => column.notNull())
      .addColumn('detail', 'text', (column) => column.notNull())
      .addColumn('acknowledged_at', types.instant)
      .addColumn('acknowledged_by', 'text')
      .compile(),
  ]
}
