import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** Checkpoints have numbers, so that one that is missing is missed; earlier ones have none. */
export const numberedCheckpoints = ({ schema }: Database, _types: ColumnTypes): CompiledQuery[] => [
  schema.alterTable('audit_checkpoints').addColumn('number', 'bigint').compile(),
]
