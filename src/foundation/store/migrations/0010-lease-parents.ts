import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** A lease of Vault ends with the token that asked for it, so a lease names its token, and the token outlives the process. */
export const leaseParents = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema.alterTable('leases').addColumn('parent', 'text').compile(),
  schema.createIndex('leases_parent').on('leases').column('parent').compile(),
  schema
    .createTable('backend_tokens')
    .addColumn('accessor', 'text', (column) => column.primaryKey())
    .addColumn('backend', 'text', (column) => column.notNull())
    .addColumn('place', 'text', (column) => column.notNull())
    .addColumn('sealed', types.bytes)
    .addColumn('ends_at', types.instant, (column) => column.notNull())
    .addColumn('next_at', types.instant, (column) => column.notNull())
    .addColumn('attempts', 'integer', (column) => column.notNull())
    .addColumn('revision', 'integer', (column) => column.notNull())
    .compile(),
]
