import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** The first schema. */
export const initial = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => {
  const grants = schema
    .createTable('grants')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('user', 'text', (column) => column.notNull())
    .addColumn('server', 'text', (column) => column.notNull())
    .addColumn('downstream', 'text', (column) => column.notNull())
    .addColumn('provider', 'text', (column) => column.notNull())
    .addColumn('client_generation', 'text', (column) => column.notNull())
    .addColumn('scopes', 'text', (column) => column.notNull())
    .addColumn('status', 'text', (column) => column.notNull())
    .addColumn('problem', 'text')
    .addColumn('sealed', types.bytes, (column) => column.notNull())
    .addColumn('version', 'bigint', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('updated_at', 'bigint', (column) => column.notNull())
    .addUniqueConstraint('grants_owner', ['tenant', 'user', 'server', 'downstream'])
  const consents = schema
    .createTable('consents')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('user', 'text', (column) => column.notNull())
    .addColumn('server', 'text', (column) => column.notNull())
    .addColumn('downstream', 'text', (column) => column.notNull())
    .addColumn('asked', 'text', (column) => column.notNull())
    .addColumn('granted', 'text', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('until', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('consents_owner', ['tenant', 'user', 'server', 'downstream'])
  const attempts = schema
    .createTable('attempts')
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('sealed', types.bytes, (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('attempts_key', ['kind', 'id'])
  const sessions = schema
    .createTable('sessions')
    .addColumn('uid', 'bigint', (column) => column.primaryKey())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('user', 'text', (column) => column.notNull())
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('groups', 'text', (column) => column.notNull())
    .addColumn('claims', 'text', (column) => column.notNull())
    .addColumn('signed_in_at', 'bigint', (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
  const secrets = schema
    .createTable('secrets')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('version', 'bigint', (column) => column.notNull())
    .addColumn('stage', 'text')
    .addColumn('sealed', types.bytes, (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('secrets_key', ['tenant', 'name', 'version'])
  const revocations = schema
    .createTable('revocations')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('scope', 'text', (column) => column.notNull())
    .addColumn('epoch', 'bigint', (column) => column.notNull())
    .addColumn('by', 'text', (column) => column.notNull())
    .addColumn('reason', 'text')
    .addColumn('forget_at', 'bigint')
  const disabled = schema
    .createTable('disabled_users')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('user', 'text', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('by', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('disabled_users_key', ['tenant', 'user'])
  const replays = schema
    .createTable('replays')
    .addColumn('namespace', 'text', (column) => column.notNull())
    .addColumn('value', 'text', (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('replays_key', ['namespace', 'value'])
  const unknown = schema
    .createTable('unknown_callers')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('facts', 'text', (column) => column.notNull())
    .addColumn('first_seen', 'bigint', (column) => column.notNull())
    .addColumn('last_seen', 'bigint', (column) => column.notNull())
    .addColumn('count', 'bigint', (column) => column.notNull())
  const keys = schema
    .createTable('signing_keys')
    .addColumn('kid', 'text', (column) => column.primaryKey())
    .addColumn('purpose', 'text', (column) => column.notNull())
    .addColumn('public_jwk', 'text', (column) => column.notNull())
    .addColumn('sealed', types.bytes, (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('signs_until', 'bigint', (column) => column.notNull())
    .addColumn('published_until', 'bigint', (column) => column.notNull())
  const upstream = schema
    .createTable('upstream_revocations')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('grant_id', 'text', (column) => column.notNull())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('provider', 'text', (column) => column.notNull())
    .addColumn('sealed', types.bytes, (column) => column.notNull())
    .addColumn('attempts', 'bigint', (column) => column.notNull())
    .addColumn('next_at', 'bigint', (column) => column.notNull())
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('problem', 'text')
  const audit = schema
    .createTable('audit_records')
    .addColumn('seq', types.counter, (column) => column.primaryKey())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('event', 'text', (column) => column.notNull())
    .addColumn('outcome', 'text', (column) => column.notNull())
    .addColumn('tenant', 'text')
    .addColumn('user', 'text')
    .addColumn('server', 'text')
    .addColumn('downstream', 'text')
    .addColumn('body', 'text', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
  const checkpoints = schema
    .createTable('audit_checkpoints')
    .addColumn('seq', types.counter, (column) => column.primaryKey())
    .addColumn('hash', 'text', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('kid', 'text', (column) => column.notNull())
    .addColumn('signature', 'text', (column) => column.notNull())
  const tables = [
    grants,
    consents,
    attempts,
    sessions,
    secrets,
    revocations,
    disabled,
    replays,
    unknown,
    keys,
    upstream,
    audit,
    checkpoints,
  ]
  const indexes = [
    schema.createIndex('grants_server').on('grants').columns(['server', 'tenant']),
    schema.createIndex('grants_downstream').on('grants').columns(['downstream', 'tenant']),
    schema.createIndex('grants_provider').on('grants').columns(['provider', 'tenant']),
    schema.createIndex('consents_server').on('consents').columns(['server', 'tenant']),
    schema.createIndex('attempts_expiry').on('attempts').column('expires_at'),
    schema.createIndex('replays_expiry').on('replays').column('expires_at'),
    schema.createIndex('upstream_due').on('upstream_revocations').columns(['state', 'next_at']),
    schema.createIndex('audit_correlation').on('audit_records').column('id'),
    schema.createIndex('audit_time').on('audit_records').column('at'),
  ]
  return [...tables, ...indexes].map((builder) => builder.compile())
}
