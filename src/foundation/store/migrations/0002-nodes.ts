import { sql, type CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** What was there before has been of one node. */
const LOCAL = 'local'

/**
 * Several nodes on one store: each has a chain of audit records and login sessions of its own, all of them know which
 * revocations there have been in which order, and one at a time refreshes a grant.
 */
export const nodes = (database: Database, types: ColumnTypes): CompiledQuery[] => {
  const { schema } = database
  const audit = schema
    .createTable('audit_records_2')
    .addColumn('node', 'text', (column) => column.notNull())
    .addColumn('seq', 'bigint', (column) => column.notNull())
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
    .addPrimaryKeyConstraint('audit_records_key', ['node', 'seq'])
  const checkpoints = schema
    .createTable('audit_checkpoints_2')
    .addColumn('node', 'text', (column) => column.notNull())
    .addColumn('seq', 'bigint', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('kid', 'text', (column) => column.notNull())
    .addColumn('signature', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('audit_checkpoints_key', ['node', 'seq'])
  const sessions = schema
    .createTable('sessions_2')
    .addColumn('node', 'text', (column) => column.notNull())
    .addColumn('uid', 'bigint', (column) => column.notNull())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('user', 'text', (column) => column.notNull())
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('groups', 'text', (column) => column.notNull())
    .addColumn('claims', 'text', (column) => column.notNull())
    .addColumn('signed_in_at', 'bigint', (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('sessions_key', ['node', 'uid'])
  const epochs = schema
    .createTable('epochs')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('value', 'bigint', (column) => column.notNull())
  const known = schema
    .createTable('nodes')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('lease_until', types.instant, (column) => column.notNull())
    .addColumn('seen', 'bigint', (column) => column.notNull())
    .addColumn('started_at', 'bigint', (column) => column.notNull())
    .addColumn('about', 'text', (column) => column.notNull())
  const frozen = schema
    .createTable('frozen_tenants')
    .addColumn('tenant', 'text', (column) => column.primaryKey())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('by', 'text', (column) => column.notNull())
    .addColumn('reason', 'text')
  const columns = sql.raw('seq, id, at, event, outcome, tenant, "user", server, downstream, body, hash')
  return [
    ...[audit, checkpoints, sessions, epochs, known, frozen].map((builder) => builder.compile()),
    sql`insert into audit_records_2 (node, ${columns}) select ${LOCAL}, ${columns} from audit_records`.compile(
      database,
    ),
    sql`insert into audit_checkpoints_2 (node, seq, hash, at, kid, signature) select ${LOCAL}, seq, hash, at, kid, signature from audit_checkpoints`.compile(
      database,
    ),
    sql`insert into sessions_2 (node, uid, tenant, "user", issuer, groups, claims, signed_in_at, expires_at)
      select ${LOCAL}, uid, tenant, "user", issuer, groups, claims, signed_in_at, expires_at from sessions`.compile(
      database,
    ),
    ...(['audit_records', 'audit_checkpoints', 'sessions'] as const).flatMap((table) => [
      schema.dropTable(table).compile(),
      schema.alterTable(`${table}_2`).renameTo(table).compile(),
    ]),
    schema.createIndex('audit_correlation').on('audit_records').column('id').compile(),
    schema.createIndex('audit_time').on('audit_records').column('at').compile(),
    schema.alterTable('grants').addColumn('refresh_owner', 'text').compile(),
    schema.alterTable('grants').addColumn('refresh_until', types.instant).compile(),
    schema
      .alterTable('revocations')
      .addColumn('seq', 'bigint', (column) => column.notNull().defaultTo(0))
      .compile(),
    sql`insert into epochs (name, value) values ('standing', 0)`.compile(database),
  ]
}
