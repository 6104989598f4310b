import { sql, type CompiledQuery } from 'kysely'
import type { Database } from '../schema.ts'

/** Revocations of tokens were forgotten after a month, and tokens can live longer: those that are still there stay. */
export const keptRevocations = (database: Database): CompiledQuery[] => [
  sql`update revocations set forget_at = null where scope like '%"kind":"token"%'`.compile(database),
]
