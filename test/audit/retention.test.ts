import { createHmac } from 'node:crypto'
import { cp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { DurableAuditLog } from '../../src/foundation/audit/log.ts'
import type { SealedSegment } from '../../src/foundation/audit/segments/folder.ts'
import { removableSegments } from '../../src/foundation/audit/segments/retention.ts'
import type { SegmentAudit } from '../../src/foundation/audit/segments/segment-store.ts'
import { aFolder, aRecord, append, check, INSTALLATION, verifyRows } from '../support/audit.ts'
import { aSegmentAudit, aSegmentLog } from '../support/segments.ts'

const prove = (text: string): string => createHmac('sha256', 'key').update(text).digest('hex')
const isProved = (text: string, proof: string): boolean => prove(text) === proof
const RULES = { size: 65_536, age: 86_400_000 }

/** Some sealed segments. */
const fill = async (log: DurableAuditLog, rounds: number): Promise<void> => {
  for (let round = 0; round < rounds; round += 1) await append(log, 300)
}
const removeAll = (audit: SegmentAudit, log: DurableAuditLog, over: { confirmed?: number; fails?: boolean } = {}) =>
  audit.prune({
    rules: { size: 0 },
    now: Date.now(),
    confirmed: over.confirmed ?? Infinity,
    prove,
    record: (detail) =>
      over.fails === true
        ? Promise.reject(new Error('the process ends here'))
        : log.append(aRecord('prune', { event: 'audit.prune', outcome: 'done', detail })),
  })

const aSegment = (number: number, last: number, to: number, over: Partial<SealedSegment> = {}): SealedSegment => ({
  number,
  path: `${number}`,
  bytes: 100,
  removed: false,
  footer: {
    format: 1,
    installation: INSTALLATION,
    node: 'local',
    number,
    first: last - 9,
    after: '',
    at: to,
    last,
    head: '',
    from: to - 5,
    to,
    bytes: 90,
    digest: '',
    sealed: to,
    kid: 'k',
    signature: '',
  },
  ...over,
})

describe('audit records that leave after their time', () => {
  const four = [aSegment(1, 10, 100), aSegment(2, 20, 200), aSegment(3, 30, 300), aSegment(4, 40, 400)]
  it.each([
    ['none without a rule', four, {}, Infinity, []],
    ['those that are too old', four, { age: 250 }, Infinity, [1, 2]],
    ['the oldest of too many', four, { size: 250 }, Infinity, [1, 2]],
    ['never the newest', four, { size: 0, age: 0 }, Infinity, [1, 2, 3]],
    ['none that a sink does not have', four, { size: 0 }, 20, [1, 2]],
    [
      'not those that are removed',
      [aSegment(1, 10, 100, { removed: true }), ...four.slice(1)],
      { size: 0 },
      Infinity,
      [2, 3],
    ],
    [
      'none without a footer',
      [aSegment(1, 10, 100, { footer: undefined }), ...four.slice(1)],
      { size: 0 },
      Infinity,
      [],
    ],
    ['none before one that stays', [aSegment(1, 10, 900), ...four.slice(1)], { age: 250 }, Infinity, []],
  ])('are chosen: %s', (_, sealed, rules, confirmed, expected) => {
    expect(removableSegments(sealed, rules, { now: 500, confirmed }).map(({ number }) => number)).toEqual(expected)
  })

  it('leave footers behind and a proved record, again and again, and the chain holds', async () => {
    const audit = await aSegmentAudit(undefined, { rules: RULES })
    const log = await aSegmentLog(audit)
    await fill(log, 4)
    const first = await removeAll(audit, log)
    expect(first).toMatchObject({ from: 1 })
    await fill(log, 3)
    const second = await removeAll(audit, log)
    expect(second).toMatchObject({ from: first.to! + 1 })
    expect(await check(audit.store, { isProved })).toMatchObject({ ok: true })
    expect(await check(audit.store)).toMatchObject({ ok: false })
    const { removed } = await check(audit.store, { isProved })
    expect([removed[0]!.from, removed.at(-1)!.to]).toEqual([1, second.to])
    expect(await audit.store.query({ id: 'r1' }, { limit: 99 })).not.toHaveLength(0)
    expect((await audit.store.query({}, { limit: 1 }))[0]!.seq).toBe(second.to! + 1)
    await log.close()
    // Copied into tables, where no footers are, the ranges together are what is missing there, and no more than that.
    const rows = await audit.store.query({}, { limit: 100_000 })
    const checkpoints = await audit.store.checkpoints()
    const copied = await verifyRows(rows, checkpoints, { isProved })
    expect(copied).toMatchObject({ ok: true, losses: [] })
    expect([copied.removed[0]!.from, copied.removed.at(-1)!.to]).toEqual([1, second.to])
    expect((await verifyRows(rows, checkpoints)).ok).toBe(false)
    expect((await verifyRows(rows.slice(1), checkpoints, { isProved })).ok).toBe(false)
    await audit.close()
    const again = await aSegmentAudit(audit.folder, { rules: RULES })
    expect(again.problems).toEqual([])
    const next = await aSegmentLog(again)
    await next.append(aRecord('after'))
    await next.close()
    expect(await check(again.store, { isProved })).toMatchObject({ ok: true })
  })

  it('are still there after a kill before the record, and a footer that disappears is missed', async () => {
    const audit = await aSegmentAudit(undefined, { rules: RULES })
    const log = await aSegmentLog(audit)
    await fill(log, 4)
    await expect(removeAll(audit, log, { fails: true })).rejects.toThrow('the process ends here')
    await log.close()
    await audit.close()
    const again = await aSegmentAudit(audit.folder, { rules: RULES })
    expect(again.problems).toEqual([])
    expect(await check(again.store)).toMatchObject({ ok: true, records: 1200 })
    const next = await aSegmentLog(again)
    const copy = await aFolder()
    await cp(join(audit.folder, 'audit'), join(copy, 'audit'), { recursive: true })
    expect((await removeAll(again, next)).segments).toBeGreaterThan(0)
    await next.close()
    await again.close()
    // Put back from a copy, the records are there again.
    await cp(join(copy, 'audit/local-0000000001.jsonl'), join(audit.folder, 'audit/local-0000000001.jsonl'))
    const restored = await aSegmentAudit(audit.folder, { rules: RULES })
    const { ok, removed } = await check(restored.store, { isProved })
    expect([ok, removed.some(({ from }) => from === 1)]).toEqual([true, false])
    await restored.close()
    const footers = (await readdir(join(audit.folder, 'audit'))).filter((name) => name.endsWith('.footer')).sort()
    await rm(join(audit.folder, 'audit', footers.at(-1)!))
    const cut = await aSegmentAudit(audit.folder, { rules: RULES })
    expect(cut.problems.join()).toContain('is missing')
    expect(await check(cut.store, { isProved })).toMatchObject({ ok: false })
  })

  it('can be sealed at any time, so that they may leave', async () => {
    const audit = await aSegmentAudit()
    const log = await aSegmentLog(audit)
    await append(log, 20)
    audit.sealSoon()
    await log.compare()
    expect((await audit.store.segments!()).map(({ sealed }) => sealed)).toEqual([true, false])
    await log.close()
    expect(await check(audit.store)).toMatchObject({ ok: true, records: 20 })
  })
})
