import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** What a user's sign-in at the company's identity provider brought, sealed. */
export const identityTokens = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema
    .createTable('identity_tokens')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('user', 'text', (column) => column.notNull())
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('sealed', types.bytes, (column) => column.notNull())
    .addColumn('expires_at', types.instant, (column) => column.notNull())
    .addPrimaryKeyConstraint('identity_tokens_key', ['tenant', 'user'])
    .compile(),
  schema.createIndex('identity_tokens_expiry').on('identity_tokens').column('expires_at').compile(),
]
