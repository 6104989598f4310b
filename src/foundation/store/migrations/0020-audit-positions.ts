import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** Up to where each sink of the audit log has confirmed the chain of a node. */
export const auditPositions = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema
    .createTable('audit_positions')
    .addColumn('node', 'text', (column) => column.notNull())
    .addColumn('sink', 'text', (column) => column.notNull())
    .addColumn('seq', types.instant, (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .addColumn('mark', 'text', (column) => column.notNull())
    .addColumn('proof', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('audit_positions_key', ['node', 'sink'])
    .compile(),
]
