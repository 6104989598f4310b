import { spawnSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { appendFile, copyFile, cp, readdir, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { aFolder, aRecord, append, check, told } from '../support/audit.ts'
import { aSegmentAudit, aSegmentLog, openAudit } from '../support/segments.ts'

const SMALL = { size: 65_536, age: 86_400_000 }
const segment = (folder: string, number: number): string =>
  join(folder, `audit/local-${String(number).padStart(10, '0')}.jsonl`)

/** A log of several segments, closed, that is like no other. */
const aNewLog = async (): Promise<string> => {
  const audit = await aSegmentAudit(undefined, { rules: SMALL })
  const log = await aSegmentLog(audit)
  for (let round = 0; round < 4; round += 1) await append(log, 300)
  await log.close()
  await audit.close()
  return audit.folder
}

const written = mkdtempSync(join(tmpdir(), 'deputy-audit-'))
let one: Promise<void> | undefined
afterAll(() => rm(written, { recursive: true, force: true }))

/** A log of several segments, closed: copies of one, which is written once. */
const aClosedLog = async (): Promise<string> => {
  await (one ??= aNewLog().then((folder) => cp(folder, written, { recursive: true })))
  const folder = await aFolder()
  await cp(written, folder, { recursive: true })
  return folder
}

describe('segments that something else touched', () => {
  it('are told when one is missing: the log goes on behind it and does not hold', async () => {
    const folder = await aClosedLog()
    await rename(segment(folder, 2), join(folder, 'elsewhere'))
    const audit = await aSegmentAudit(folder)
    expect(audit.problems.join()).toContain('segment 2 of the audit log is missing')
    const log = await aSegmentLog(audit)
    await log.append(aRecord('after'))
    await log.close()
    expect(await check(audit.store)).toMatchObject({
      ok: false,
      problem: { why: expect.stringContaining('segment 2 is missing') as string },
    })
    await audit.close()
    await rename(join(folder, 'elsewhere'), segment(folder, 2))
    expect(await check((await aSegmentAudit(folder)).store)).toMatchObject({ ok: true, records: 1201 })
  })

  it('are told when the end of a sealed one was cut off, and do not hold', async () => {
    const folder = await aClosedLog()
    await truncate(segment(folder, 1), 10_000)
    const audit = await aSegmentAudit(folder)
    expect(audit.problems.join()).toContain('has no footer')
    expect(await check(audit.store)).toMatchObject({ ok: false })
  })

  it('are refused at the start when the end is not as it was written, with what to do', async () => {
    const folder = await aClosedLog()
    const last = (await readdir(join(folder, 'audit'))).filter((name) => name.endsWith('.jsonl')).length
    await appendFile(segment(folder, last), 'something else\n')
    await expect(aSegmentAudit(folder)).rejects.toMatchObject({
      code: 'start_failed',
      facts: { fix: expect.stringMatching(/truncate -s \d+ .*jsonl/) as string },
    })
  })

  it('are refused at the start when they are of another installation', async () => {
    const folder = await aClosedLog()
    const chain = { installation: 'another', node: 'local' }
    await expect(aSegmentAudit(folder, { chain })).rejects.toMatchObject({
      code: 'start_failed',
      facts: { problem: expect.stringContaining('another installation') as string },
    })
  })

  it('are written by one process at a time', async () => {
    const audit = await aSegmentAudit()
    // Another database, the same folder of segments.
    await expect(openAudit(await aFolder(), { folder: join(audit.folder, 'audit') })).rejects.toMatchObject({
      code: 'start_failed',
      facts: { problem: expect.stringContaining('another daemon') as string },
    })
  })

  it.each([
    ['removed', (path: string) => rm(path), 'is gone'],
    ['moved', (path: string) => rename(path, `${path}.1`), 'is gone'],
    [
      'replaced by a copy',
      (path: string) => copyFile(path, `${path}.1`).then(() => rename(`${path}.1`, path)),
      'another file',
    ],
    ['cut off', (path: string) => truncate(path, 100), 'something else writes'],
    ['added to', (path: string) => appendFile(path, 'x'), 'something else writes'],
  ])('threat 29: refuse records while the one that is written was %s', async (_, change, problem) => {
    const audit = await aSegmentAudit()
    const log = await aSegmentLog(audit, { deadline: 500 })
    await log.append(aRecord('before'))
    await change(segment(audit.folder, 1))
    await expect(log.append(aRecord('refused'))).rejects.toMatchObject({
      code: 'audit_unavailable',
      facts: { sink: 'store', problem: expect.stringContaining(problem) as string },
    })
    await log.close()
  })

  it('threat 29: refuse records on a full disk, and go on when there is room', async ({ skip }) => {
    const folder = await aFolder()
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', folder]).status !== 0) {
      skip('only root may mount a small file system')
      return
    }
    onTestFinished(() => {
      spawnSync('umount', [folder])
    })
    const audit = await aSegmentAudit(folder)
    const log = await aSegmentLog(audit, { deadline: 300 })
    await log.append(aRecord('first'))
    const ballast = join(folder, 'ballast')
    await writeFile(ballast, Buffer.alloc(4_000_000)).catch(() => undefined)
    let refusal: unknown
    for (let count = 0; refusal === undefined && count < 400; count += 1)
      await log.append(aRecord('a', { detail: { story: 'x'.repeat(10_000) } })).catch((error: unknown) => {
        refusal = error
      })
    expect(refusal).toMatchObject({
      code: 'audit_unavailable',
      facts: { problem: expect.stringContaining('ENOSPC') as string },
    })
    await rm(ballast)
    await expect.poll(() => log.status().every(({ ok }) => ok)).toBe(true)
    await log.append(aRecord('last'))
    await log.close()
    expect(
      (await told(audit.store)).filter((line) => line.startsWith('first') || line.startsWith('last')),
    ).toHaveLength(2)
    expect(await check(audit.store)).toMatchObject({ ok: true })
    await audit.close()
  })

  it('go on when the clock was put back', async () => {
    const audit = await aSegmentAudit(undefined, { rules: SMALL })
    let now = 10_000_000
    const log = await aSegmentLog(audit, { clock: { now: () => (now -= 1000) } })
    await append(log, 500)
    await log.close()
    expect(await check(audit.store)).toMatchObject({ ok: true, records: 500 })
    const [first] = await audit.store.query({ node: '*' }, { limit: 1 })
    expect(first).toMatchObject({ seq: 500 })
  })

  it('promise 3: does not hold where the index hides an order of an admin', async () => {
    const audit = await aSegmentAudit()
    const log = await aSegmentLog(audit)
    for (const event of ['revocation', 'user.disable'] as const) await log.append(aRecord(event, { event }))
    await log.close()
    expect(await check(audit.store)).toMatchObject({ ok: true, records: 2 })
    await audit.close()
    const index = join(audit.folder, 'audit/index.db')
    const altered = new DatabaseSync(index)
    altered.exec('delete from rare where seq = 1')
    altered.close()
    const again = await aSegmentAudit(audit.folder)
    expect(await again.store.query({ event: 'revocation' }, { limit: 9 })).toEqual([])
    expect(await check(again.store)).toMatchObject({
      ok: false,
      problem: { seq: 1, why: expect.stringContaining('the index was altered') as string },
    })
    await again.close()
    for (const suffix of ['', '-wal', '-shm']) await rm(index + suffix, { force: true })
    expect(await check((await aSegmentAudit(audit.folder)).store)).toMatchObject({ ok: true })
  })

  it.each([
    ['missing', (path: string) => rm(path)],
    ['no database', (path: string) => writeFile(path, 'this is no database '.repeat(1000))],
    ['of another log', (path: string, other: string) => copyFile(other, path)],
  ])('are searched with an index that is made anew where it is %s', async (_, change) => {
    const [folder, other] = [await aClosedLog(), await aNewLog()]
    for (const home of [folder, other]) {
      const audit = await aSegmentAudit(home)
      expect(await audit.store.query({ id: 'r7' }, { limit: 9 })).toHaveLength(4)
      await audit.close()
    }
    for (const name of ['index.db-wal', 'index.db-shm']) await rm(join(folder, 'audit', name), { force: true })
    await change(join(folder, 'audit/index.db'), join(other, 'audit/index.db'))
    const audit = await aSegmentAudit(folder)
    expect(await audit.store.query({ id: 'r7' }, { limit: 9 })).toHaveLength(4)
    expect(await audit.store.checkpoints()).not.toEqual([])
  })
})
