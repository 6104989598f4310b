import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** By which names people know users; of the names only keyed fingerprints. */
export const userNames = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema
    .createTable('user_names')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('user', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('proof', 'text', (column) => column.notNull())
    .addColumn('seen_at', types.instant, (column) => column.notNull())
    .addPrimaryKeyConstraint('user_names_key', ['tenant', 'user'])
    .compile(),
  schema.createIndex('user_names_name').on('user_names').column('name').compile(),
  schema.createIndex('user_names_seen').on('user_names').column('seen_at').compile(),
]
