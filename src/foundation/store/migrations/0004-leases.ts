import { sql, type CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** Credentials that backends make on demand, each with the lease that ends it. */
export const leases = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema
    .createTable('leases')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('user', 'text', (column) => column.notNull())
    .addColumn('server', 'text', (column) => column.notNull())
    .addColumn('downstream', 'text', (column) => column.notNull())
    .addColumn('backend', 'text', (column) => column.notNull())
    .addColumn('role', 'text', (column) => column.notNull())
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('external', 'text')
    .addColumn('sealed', types.bytes)
    .addColumn('duration', types.instant, (column) => column.notNull())
    .addColumn('created_at', types.instant, (column) => column.notNull())
    .addColumn('renewed_at', types.instant, (column) => column.notNull())
    .addColumn('used_at', types.instant, (column) => column.notNull())
    .addColumn('expires_at', types.instant, (column) => column.notNull())
    .addColumn('next_at', types.instant, (column) => column.notNull())
    .addColumn('attempts', 'integer', (column) => column.notNull())
    .addColumn('problem', 'text')
    .addColumn('revision', 'integer', (column) => column.notNull())
    .compile(),
  // One that is not ending for each owner, over all nodes; an empty user is the server itself.
  schema
    .createIndex('leases_owner')
    .on('leases')
    .columns(['tenant', 'user', 'server', 'downstream'])
    .unique()
    .where(sql.ref('state'), '<>', 'ending')
    .compile(),
  schema.createIndex('leases_due').on('leases').column('next_at').compile(),
]
