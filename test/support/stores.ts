/** Stores that tests borrow: a thread and a schema for each test cost more than most tests. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import type { Store } from '../../src/foundation/store/store.ts'

export interface BorrowedStore {
  readonly store: Store
  /** Takes out what was written: the store is as it was when it was opened first. */
  empty(): void
  /** Gives it back, emptied, to the next test of this worker. */
  close(): Promise<void>
}

interface Kept {
  readonly store: Store
  readonly path: string
  /** A copy of the database that nothing was written to. */
  readonly pristine: string
}

const free: Kept[] = []
const folders: string[] = []
const clean = (): void => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
}
process.once('exit', clean)
// So vitest ends a worker in which threads still run.
process.once('SIGTERM', () => {
  clean()
  process.exit()
})

const open = async (): Promise<Kept> => {
  const folder = mkdtempSync(join(tmpdir(), 'deputy-store-'))
  folders.push(folder)
  const [path, pristine] = [join(folder, 'deputy.db'), join(folder, 'pristine.db')]
  const store = await openSqliteStore({ path })
  const database = new DatabaseSync(path)
  database.exec(`vacuum into '${pristine}'`)
  database.close()
  return { store, path, pristine }
}

const reset = ({ path, pristine }: Kept): void => {
  const database = new DatabaseSync(path)
  try {
    database.exec(`attach '${pristine}' as pristine; begin immediate`)
    const tables = database
      .prepare("select name from pristine.sqlite_master where type = 'table' and name not like 'sqlite_%'")
      .all()
    for (const { name } of tables)
      database.exec(
        `delete from main."${String(name)}"; insert into main."${String(name)}" select * from pristine."${String(name)}"`,
      )
    database.exec('commit')
  } finally {
    database.close()
  }
}

/** A store for tests that neither open it again nor end it: those open one of their own. */
export const borrowStore = async (): Promise<BorrowedStore> => {
  const kept = free.pop() ?? (await open())
  let closed = false
  return {
    store: kept.store,
    empty: () => {
      reset(kept)
    },
    close() {
      if (!closed) {
        closed = true
        reset(kept)
        free.push(kept)
      }
      return Promise.resolve()
    },
  }
}
