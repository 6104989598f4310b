import { cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, it } from 'vitest'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import { aFolder, aLog, aRecord, append, check } from '../support/audit.ts'
import { aSegmentAudit, aSegmentLog } from '../support/segments.ts'

const RECORDS = 2500

/** A store of the version before: its log is in tables. */
const anEarlierStore = async (): Promise<string> => {
  const folder = await aFolder()
  const store = await openSqliteStore({ path: join(folder, 'deputy.db') })
  const log = await aLog(store.audit, { checkpointEvery: 700 })
  await append(log, RECORDS)
  await log.close()
  await store.close()
  return folder
}
const inTables = async (folder: string): Promise<number[]> => {
  const database = new DatabaseSync(join(folder, 'deputy.db'))
  const counts = ['audit_records', 'audit_checkpoints'].map((table) =>
    Number(database.prepare(`select count(*) as count from ${table}`).get()!['count']),
  )
  database.close()
  return counts
}
const change = (folder: string, sql: string): void => {
  const database = new DatabaseSync(join(folder, 'deputy.db'))
  database.exec(sql)
  database.close()
}

describe('an audit log that an earlier version kept in tables', () => {
  it('is moved into files once, holds, and goes on there', async () => {
    const folder = await anEarlierStore()
    const audit = await aSegmentAudit(folder, { rules: { size: 200_000, age: 86_400_000 } })
    expect(audit.problems).toEqual([])
    const log = await aSegmentLog(audit)
    await log.append(aRecord('after'))
    await log.close()
    expect(await check(audit.store)).toMatchObject({ ok: true, records: RECORDS + 1 })
    expect((await audit.store.segments!()).filter(({ sealed }) => sealed).length).toBeGreaterThan(1)
    await audit.close()
    expect(await inTables(folder)).toEqual([0, 0])
    const again = await aSegmentAudit(folder)
    expect(await again.store.head()).toMatchObject({ seq: RECORDS + 1 })
    expect((await readdir(folder)).filter((name) => name.includes('unfinished'))).toEqual([])
  })

  it('is moved anew after a kill before the files were whole, and what is left in the tables is removed after one later', async () => {
    const folder = await anEarlierStore()
    await mkdir(join(folder, 'audit.unfinished'))
    await writeFile(join(folder, 'audit.unfinished/local-0000000001.jsonl'), '{"half')
    const copy = await aFolder()
    await cp(folder, copy, { recursive: true })
    await (await aSegmentAudit(folder)).close()
    // As if the process had been killed when the folder had its name and the rows were still there.
    await cp(join(folder, 'audit'), join(copy, 'audit'), { recursive: true })
    const audit = await aSegmentAudit(copy)
    expect(await check(audit.store)).toMatchObject({ ok: true, records: RECORDS })
    await audit.close()
    expect(await inTables(copy)).toEqual([0, 0])
  })

  it.each([
    ['a changed text', "update audit_records set body = replace(body, 'acme', 'evil') where seq = 100", /100|broken/],
    ['a changed column', "update audit_records set tenant = 'evil' where seq = 100", /record 100 differ/],
    ['a removed record', 'delete from audit_records where seq = 100', /broken/],
    ['a changed checkpoint', "update audit_checkpoints set hash = 'x' where seq = 2500", /another record 2500/],
  ])('is moved with %s as it is, which is told, and does not hold', async (_, sql, told) => {
    const folder = await anEarlierStore()
    change(folder, sql)
    const audit = await aSegmentAudit(folder)
    expect(audit.problems.join()).toMatch(told)
    expect(await audit.store.head()).toMatchObject({ seq: RECORDS })
    // The text of a record whose column was altered is as it was written, and the text is what is kept.
    expect((await check(audit.store)).ok).toBe(sql.includes('set tenant'))
  })

  it('leaves rows that the files do not have where they are', async () => {
    const folder = await anEarlierStore()
    const other = await aSegmentAudit()
    const log = await aSegmentLog(other)
    await append(log, 10)
    await log.close()
    await other.close()
    await cp(join(other.folder, 'audit'), join(folder, 'audit'), { recursive: true })
    await (await aSegmentAudit(folder)).close()
    expect(await inTables(folder)).toEqual([RECORDS, expect.any(Number)])
    await rm(join(folder, 'audit'), { recursive: true })
    const audit = await aSegmentAudit(folder)
    expect(await check(audit.store)).toMatchObject({ ok: true, records: RECORDS })
  })
})
