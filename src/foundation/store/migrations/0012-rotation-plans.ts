import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** A rotation keeps what it has to end, sealed, and knows the target at which it ends it. */
export const rotationPlans = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema.alterTable('rotations').addColumn('target', 'text').compile(),
  schema.alterTable('rotations').addColumn('turned_back', 'text').compile(),
  schema.alterTable('rotations').addColumn('sealed', types.bytes).compile(),
]
