import type { CompiledQuery } from 'kysely'
import type { ColumnTypes, Database } from '../schema.ts'

/** A login session is believed by what is sealed of it, and orders of admins are found in the audit log by their event. */
export const sealedSessions = ({ schema }: Database, types: ColumnTypes): CompiledQuery[] => [
  schema.alterTable('sessions').addColumn('sealed', types.bytes).compile(),
  schema.createIndex('audit_event').on('audit_records').column('event').compile(),
]
