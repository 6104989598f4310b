import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** Who holds which version of a secret that rotates. */
export const holders = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema
    .createTable('secret_holders')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('backend', 'text', (column) => column.notNull())
    .addColumn('secret', 'text', (column) => column.notNull())
    .addColumn('holder', 'text', (column) => column.notNull())
    .addColumn('server', 'text', (column) => column.notNull())
    .addColumn('version', 'text', (column) => column.notNull())
    .addColumn('until', types.instant, (column) => column.notNull())
    .addPrimaryKeyConstraint('secret_holders_key', ['tenant', 'backend', 'secret', 'holder'])
    .compile(),
  schema.createIndex('secret_holders_until').on('secret_holders').column('until').compile(),
]
