import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** A consent for a client counts only with a proof that Deputy has written it. */
export const provedConsents = ({ schema }: Database, _types: ColumnTypes): CompiledQuery[] => [
  schema.alterTable('consents').addColumn('proof', 'text').compile(),
]
