import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { IndexConnection } from '../../src/foundation/audit/segments/index/index-connection.ts'
import { aFolder, aRecord, append, check, INSTALLATION, told, upTo } from '../support/audit.ts'
import { runKills } from './kills.ts'
import { describeAuditStore } from '../conformance/audit-store.ts'
import { aSegmentAudit, aSegmentLog, openAudit } from '../support/segments.ts'

describeAuditStore('a folder of segments', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-audit-'))
  return {
    installation: INSTALLATION,
    async open() {
      const { store, close } = await openAudit(folder)
      return { audit: store, close }
    },
    dispose: () => rm(folder, { recursive: true, force: true }),
  }
})

describe('the audit log in segment files', () => {
  it('chains records, goes on after a restart, rolls, and holds', async () => {
    const rules = { size: 65_536, age: 86_400_000 }
    const first = await aSegmentAudit(undefined, { rules })
    const log = await aSegmentLog(first)
    await append(log, 500)
    await log.close()
    await first.close()
    const second = await aSegmentAudit(first.folder, { rules })
    const again = await aSegmentLog(second)
    await append(again, 500)
    await again.append(aRecord('last'))
    expect((await second.store.query({ id: 'last' }, { limit: 9 })).map(({ seq }) => seq)).toEqual([1001])
    await again.close()
    expect(await check(second.store)).toMatchObject({ ok: true, records: 1001 })
    expect((await second.store.query({}, { limit: 10_000 })).map(({ seq }) => seq)).toEqual(upTo(1001))
    expect((await told(second.store)).length).toBe(1000)
    const names = await readdir(join(first.folder, 'audit'))
    expect(names.filter((name) => name.endsWith('.jsonl')).length).toBeGreaterThanOrEqual(3)
    for (const name of names)
      expect([name, (await stat(join(first.folder, 'audit', name))).mode & 0o777]).toEqual([name, 0o600])
    expect((await stat(join(first.folder, 'audit'))).mode & 0o777).toBe(0o700)
    expect(await readFile(join(first.folder, 'audit/local-0000000001.jsonl'), 'utf8')).toMatch(/\}\n$/)
  })

  it('ends the thread of its index when there are no questions, and finds what is new with the next one', async () => {
    const audit = await aSegmentAudit()
    const log = await aSegmentLog(audit)
    await append(log, 20)
    await log.close()
    await audit.close()
    const folder = join(audit.folder, 'audit')
    const { size } = await stat(join(folder, 'local-0000000001.jsonl'))
    const index = new IndexConnection({ folder, node: 'local' }, 50)
    const seqs = async (bytes: number): Promise<number[]> => {
      const query = { kind: 'query', durable: { number: 1, bytes }, filter: {}, page: { limit: 99 } } as const
      return ((await index.ask(query)).rows ?? []).map(({ seq }) => seq)
    }
    for (let round = 0; round < 2; round += 1) {
      expect(await seqs(size)).toEqual(upTo(20))
      await vi.waitFor(() => {
        expect(index.isOpen).toBe(false)
      }, 5000)
      // The thread before may be about to end still: two do not write one file.
      expect(await Promise.all([seqs(size), seqs(size)])).toEqual([upTo(20), upTo(20)])
    }
    await index.close()
    await expect(seqs(size)).rejects.toThrow(/closed/)
  })

  it('promise 3: has every acknowledged record when its process is killed, again and again', async () => {
    const { missing, problems, records } = await runKills(await aFolder(), 3)
    expect({ missing, problems }).toEqual({ missing: [], problems: [] })
    expect(records).toBeGreaterThan(150)
  })
})
