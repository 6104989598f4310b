import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** MCP clients that have registered themselves, and what was seen of the documents of others. */
export const clients = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema
    .createTable('clients')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('sealed', types.bytes, (column) => column.notNull())
    .addColumn('created_at', types.instant, (column) => column.notNull())
    .addColumn('used_at', types.instant)
    .addColumn('expires_at', types.instant, (column) => column.notNull())
    .compile(),
  schema.createIndex('clients_used').on('clients').column('used_at').compile(),
  schema.createIndex('clients_expiry').on('clients').column('expires_at').compile(),
]
