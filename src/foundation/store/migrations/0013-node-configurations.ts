import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** A node says which configuration it decides by, and since when, so that nodes that differ are noticed. */
export const nodeConfigurations = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema.alterTable('nodes').addColumn('configuration', 'text').compile(),
  schema.alterTable('nodes').addColumn('configured_at', types.instant).compile(),
]
