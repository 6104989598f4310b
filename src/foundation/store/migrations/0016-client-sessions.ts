import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** Sign-ins at MCP clients, and the records of the authorization server that descend from them. */
export const clientSessions = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema
    .createTable('client_sessions')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('user', 'text', (column) => column.notNull())
    .addColumn('client', 'text', (column) => column.notNull())
    .addColumn('server', 'text', (column) => column.notNull())
    .addColumn('sealed', types.bytes, (column) => column.notNull())
    .addColumn('created_at', types.instant, (column) => column.notNull())
    .addColumn('used_at', types.instant, (column) => column.notNull())
    .addColumn('expires_at', types.instant, (column) => column.notNull())
    .compile(),
  schema.createIndex('client_sessions_user').on('client_sessions').columns(['tenant', 'user']).compile(),
  schema.createIndex('client_sessions_client').on('client_sessions').column('client').compile(),
  schema.createIndex('client_sessions_expiry').on('client_sessions').column('expires_at').compile(),
  schema
    .createTable('authorization_records')
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('session', 'text')
    .addColumn('user_code', 'text')
    .addColumn('position', 'integer', (column) => column.notNull())
    .addColumn('sealed', types.bytes, (column) => column.notNull())
    .addColumn('expires_at', types.instant, (column) => column.notNull())
    .addColumn('consumed_at', types.instant)
    .addPrimaryKeyConstraint('authorization_records_key', ['kind', 'id'])
    .compile(),
  schema.createIndex('authorization_records_session').on('authorization_records').column('session').compile(),
  schema.createIndex('authorization_records_user_code').on('authorization_records').column('user_code').compile(),
  schema.createIndex('authorization_records_expiry').on('authorization_records').column('expires_at').compile(),
]
