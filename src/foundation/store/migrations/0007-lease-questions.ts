import { sql, type CompiledQuery } from 'kysely'
import type { Database } from '../schema.ts'

/** An owner has a lease for each thing that it asks for, such as the permissions of a token. */
export const leaseQuestions = ({ schema }: Database): CompiledQuery[] => [
  schema.dropIndex('leases_owner').compile(),
  schema
    .createIndex('leases_owner')
    .on('leases')
    .columns(['tenant', 'user', 'server', 'downstream', 'backend', 'role'])
    .unique()
    .where(sql.ref('state'), '<>', 'ending')
    .compile(),
]
