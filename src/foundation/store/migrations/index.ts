import { sql, type CompiledQuery } from 'kysely'
import { refuse } from '#errors'
import type { Atomically, ColumnTypes, Database } from '../schema.ts'
import { initial } from './0001-initial.ts'
import { nodes } from './0002-nodes.ts'
import { rotation } from './0003-rotation.ts'
import { leases } from './0004-leases.ts'
import { holders } from './0005-holders.ts'
import { identityTokens } from './0006-identity-tokens.ts'
import { leaseQuestions } from './0007-lease-questions.ts'
import { keptRevocations } from './0008-kept-revocations.ts'
import { sealedSessions } from './0009-sealed-sessions.ts'
import { leaseParents } from './0010-lease-parents.ts'
import { histories } from './0011-histories.ts'
import { rotationPlans } from './0012-rotation-plans.ts'
import { nodeConfigurations } from './0013-node-configurations.ts'
import { userNames } from './0014-user-names.ts'
import { keyedAcknowledgements } from './0015-keyed-acknowledgements.ts'
import { clientSessions } from './0016-client-sessions.ts'
import { clients } from './0017-clients.ts'
import { provedConsents } from './0018-proved-consents.ts'
import { numberedCheckpoints } from './0019-numbered-checkpoints.ts'
import { auditPositions } from './0020-audit-positions.ts'

/** A step of the schema. Its queries and the note that it was done are one transaction, so that it is done once or not at all. */
export type Migration = (database: Database, types: ColumnTypes) => CompiledQuery[]

const migrations: readonly Migration[] = [
  initial,
  nodes,
  rotation,
  leases,
  holders,
  identityTokens,
  leaseQuestions,
  keptRevocations,
  sealedSessions,
  leaseParents,
  histories,
  rotationPlans,
  nodeConfigurations,
  userNames,
  keyedAcknowledgements,
  clientSessions,
  clients,
  provedConsents,
  numberedCheckpoints,
  auditPositions,
]

/** The schema's version that this program needs. */
export const SCHEMA_VERSION = migrations.length

/** The version that the store's schema has; 0 for one that is empty. */
export const schemaVersion = async (database: Database): Promise<number> => {
  await sql`create table if not exists schema_version (version integer primary key)`.execute(database)
  const { rows } = await sql<{ version: number | null }>`select max(version) as version from schema_version`.execute(
    database,
  )
  return Number(rows[0]?.version ?? 0)
}

/** Brings the store to this program's version. @throws DeputyError `store_unavailable` when it is newer already */
export const migrate = async (database: Database, atomically: Atomically, types: ColumnTypes): Promise<void> => {
  const found = await schemaVersion(database)
  if (found > SCHEMA_VERSION) {
    throw refuse('store_unavailable', {
      problem: `it was written by a newer Deputy (schema ${found}, this one knows ${SCHEMA_VERSION}); install that version again`,
    })
  }
  for (let version = found + 1; version <= SCHEMA_VERSION; version += 1) {
    const queries = migrations[version - 1]!(database, types)
    await atomically([...queries, sql`insert into schema_version (version) values (${version})`.compile(database)])
  }
}
