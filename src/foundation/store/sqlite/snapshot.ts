import { DatabaseSync } from 'node:sqlite'
import { refuse } from '#errors'
import { isHeld, takeHold } from '#foundation/hold'
import { SCHEMA_VERSION } from '../migrations/index.ts'
import { MIGRATION_NOTES } from '../migrations/notes.ts'
import { problemOf } from './executor.ts'

/** How long a reader waits for a writer (ms). */
const PATIENCE_MS = 5000

/** Keeps daemons away from a store that is not open. @throws DeputyError `start_failed` when a daemon has it */
export const holdStore = (path: string): Disposable => {
  try {
    const lock = takeHold(`${path}.hold`)
    return {
      [Symbol.dispose]() {
        lock.close()
      },
    }
  } catch (error) {
    if (!isHeld(error)) throw error
    throw refuse(
      'start_failed',
      {
        problem: `a daemon has the state folder of ${path}`,
        fix: 'Stop the daemon first: deputy status shows its process id.',
      },
      error,
    )
  }
}

/**
 * Writes the store as it is at one moment into a new file. A daemon may hold the store and write meanwhile
 * (https://www.sqlite.org/lang_vacuum.html, VACUUM INTO): it reads within one transaction.
 * @throws DeputyError `store_unavailable`, also for a full disk
 */
export const snapshotStore = (path: string, target: string): void => {
  try {
    const database = new DatabaseSync(path, { readOnly: true, timeout: PATIENCE_MS })
    try {
      database.prepare('vacuum into ?').run(target)
    } finally {
      database.close()
    }
  } catch (error) {
    throw refuse('store_unavailable', { problem: `a copy of ${path} was not made: ${problemOf(error).problem}` }, error)
  }
}

/** What a file of a store holds. */
export interface StoreFile {
  /** The version of its schema. */
  readonly schema: number
  /** What is damaged; undefined where nothing is. */
  readonly problem: string | undefined
}

/** Reads every page of a file, and compares indexes and references with rows. */
export const checkStoreFile = (path: string): StoreFile => {
  try {
    const database = new DatabaseSync(path, { readOnly: true, timeout: PATIENCE_MS })
    try {
      const [found] = database.prepare('pragma integrity_check(1)').all()
      const [reference] = database.prepare('pragma foreign_key_check').all()
      const row = database.prepare('select max(version) as version from schema_version').get()
      const integrity = String(found?.['integrity_check'])
      const problem =
        integrity !== 'ok'
          ? integrity
          : reference === undefined
            ? undefined
            : `a row of ${String(reference['table'])} refers to none`
      return { schema: Number(row?.['version'] ?? 0), problem }
    } finally {
      database.close()
    }
  } catch (error) {
    return { schema: 0, problem: problemOf(error).problem }
  }
}

/** Why this program cannot use a schema; undefined where it can. */
export const schemaProblem = (schema: number): string | undefined =>
  schema > SCHEMA_VERSION
    ? `a newer Deputy has written it (schema ${schema}, and this version knows ${SCHEMA_VERSION})`
    : undefined

/** What a step of the schema changes. */
export interface PendingStep {
  readonly step: number
  readonly changes: string
}

/** The steps that bring a schema to this program's version. */
export const pendingSteps = (schema: number): PendingStep[] =>
  MIGRATION_NOTES.slice(schema).map((changes, at) => ({ step: schema + at + 1, changes }))

/** How many audit records are in the tables of a file: the first start of a version with segment files moves them. */
export const auditRowsIn = (path: string): number => {
  const database = new DatabaseSync(path, { readOnly: true, timeout: PATIENCE_MS })
  try {
    return Number(database.prepare('select count(*) as count from audit_records').get()?.['count'] ?? 0)
  } finally {
    database.close()
  }
}
