import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** How far a node has applied revocations is proved with the key of the installation. */
export const keyedAcknowledgements = ({ schema }: Database, _types: ColumnTypes): CompiledQuery[] => [
  schema.alterTable('nodes').addColumn('seen_proof', 'text').compile(),
]
