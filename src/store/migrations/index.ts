import { sql, type CompiledQuery } from 'kysely'
import { refuse } from '../../errors.ts'
import type { Atomically, Database } from '../schema.ts'
import { initial } from './0001-initial.ts'

/** A step of the schema. Its queries and the note that it was done are one transaction, so that it is done once or not at all. */
export type Migration = (database: Database) => CompiledQuery[]

const migrations: readonly Migration[] = [initial]

/** The schema's version that this program needs. */
export const SCHEMA_VERSION = migrations.length

/** Brings the store to this program's version. @throws DeputyError `store_unavailable` when it is newer already */
export const migrate = async (database: Database, atomically: Atomically): Promise<void> => {
  await sql`create table if not exists schema_version (version integer primary key)`.execute(database)
  const { rows } = await sql<{ version: number | null }>`select max(version) as version from schema_version`.execute(database)
  const found = Number(rows[0]?.version ?? 0)
  if (found > SCHEMA_VERSION) {
    throw refuse('store_unavailable', { problem: `it was written by a newer Deputy (schema ${found}, this one knows ${SCHEMA_VERSION}); install that version again` })
  }
  for (let version = found + 1; version <= SCHEMA_VERSION; version += 1) {
    const queries = migrations[version - 1]!(database)
    await atomically([...queries, sql`insert into schema_version (version) values (${version})`.compile(database)])
  }
}
