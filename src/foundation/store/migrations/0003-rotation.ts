import { sql, type CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** Versions of secrets know what they were staged under; when each secret rotates, and every rotation with the step that it has reached. */
export const rotation = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema.alterTable('secrets').addColumn('token', 'text').compile(),
  schema.createIndex('secrets_stages').on('secrets').columns(['tenant', 'name', 'stage']).unique().compile(),
  schema
    .createTable('rotation_targets')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('backend', 'text', (column) => column.notNull())
    .addColumn('secret', 'text', (column) => column.notNull())
    .addColumn('policy', 'text', (column) => column.notNull())
    .addColumn('rotated_at', types.instant)
    .addColumn('next_at', types.instant)
    .addColumn('paused', 'text')
    .addPrimaryKeyConstraint('rotation_targets_key', ['tenant', 'backend', 'secret'])
    .compile(),
  schema.createIndex('rotation_due').on('rotation_targets').column('next_at').compile(),
  schema
    .createTable('rotations')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('backend', 'text', (column) => column.notNull())
    .addColumn('secret', 'text', (column) => column.notNull())
    .addColumn('policy', 'text', (column) => column.notNull())
    .addColumn('rotator', 'text', (column) => column.notNull())
    .addColumn('reason', 'text', (column) => column.notNull())
    .addColumn('step', 'text', (column) => column.notNull())
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('old_version', 'text')
    .addColumn('new_version', 'text')
    .addColumn('problem', 'text')
    .addColumn('attempts', 'integer', (column) => column.notNull())
    .addColumn('next_at', types.instant, (column) => column.notNull())
    .addColumn('grace_until', types.instant)
    .addColumn('started_at', types.instant, (column) => column.notNull())
    .addColumn('ended_at', types.instant)
    .addColumn('owner', 'text')
    .addColumn('owner_until', types.instant)
    .addColumn('revision', 'integer', (column) => column.notNull())
    .compile(),
  // One open rotation a secret, over all nodes.
  schema
    .createIndex('rotations_open')
    .on('rotations')
    .columns(['tenant', 'backend', 'secret'])
    .unique()
    .where(sql.ref('ended_at'), 'is', null)
    .compile(),
  schema.createIndex('rotations_due').on('rotations').column('next_at').compile(),
  schema.createIndex('rotations_of').on('rotations').columns(['tenant', 'backend', 'secret', 'started_at']).compile(),
]
