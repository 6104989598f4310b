import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EARLIER_GENESIS, emptyChain, hashOf, link, type Head } from '../../src/foundation/audit/format/chain.ts'
import type { AuditCheckpoint, AuditRow } from '../../src/foundation/store/records/audit.ts'
import { aLog, append, aStore, known, verifyRows } from '../support/audit.ts'

describe('verifying the chain', () => {
  const aChain = async (): Promise<{ rows: AuditRow[]; checkpoints: AuditCheckpoint[] }> => {
    const store = await aStore()
    const log = await aLog(store)
    await append(log, 11)
    await append(log, 1)
    await log.close()
    return { rows: await store.query({}, { limit: 99 }), checkpoints: await store.checkpoints() }
  }

  it('promise 3: finds any change of any field of any record, at that record', async () => {
    const { rows, checkpoints } = await aChain()
    const fields = [
      'seq',
      'id',
      'at',
      'event',
      'outcome',
      'tenant',
      'user',
      'server',
      'downstream',
      'body',
      'hash',
    ] as const
    await fc.assert(
      fc.asyncProperty(fc.nat(rows.length - 1), fc.constantFrom(...fields), fc.string(), async (index, field, text) => {
        const row = rows[index]!
        const value = typeof row[field] === 'number' ? row[field] + 1 + text.length : `${row[field]}${text}!`
        const result = await verifyRows(rows.with(index, { ...row, [field]: value }), checkpoints)
        expect(result.ok).toBe(false)
      }),
    )
  })
  it('promise 3: finds a removed record and two that changed places', async () => {
    const { rows, checkpoints } = await aChain()
    await fc.assert(
      fc.asyncProperty(fc.nat(rows.length - 2), async (index) => {
        expect((await verifyRows(rows.toSpliced(index, 1), checkpoints)).ok).toBe(false)
        expect(
          (await verifyRows(rows.with(index, rows[index + 1]!).with(index + 1, rows[index]!), checkpoints)).ok,
        ).toBe(false)
      }),
    )
  })
  it('promise 3: finds a tail that was cut off and a checkpoint that was not signed', async () => {
    const { rows, checkpoints } = await aChain()
    expect(await verifyRows(rows.slice(0, -1), checkpoints)).toMatchObject({ ok: false, problem: { seq: 12 } })
    const forged = checkpoints.map((checkpoint) => ({
      ...checkpoint,
      signature: Buffer.alloc(70).toString('base64url'),
    }))
    expect((await verifyRows(rows, forged)).problem?.why).toContain('signature')
  })
  it('promise 3: finds a rewritten history whose hashes were all made anew, by the checkpoint', async () => {
    const { rows, checkpoints } = await aChain()
    await fc.assert(
      fc.asyncProperty(fc.nat(rows.length - 1), fc.string({ minLength: 1 }), async (from, user) => {
        let head: Head = emptyChain(known.chain)
        const forged = rows.map((row, index) => {
          const link = index < from ? row : relinked(row, head, index === from ? user : undefined)
          head = link
          return link
        })
        expect(await verifyRows(forged, checkpoints)).toMatchObject({
          ok: false,
          problem: { why: 'of the node local: it is not the record that its checkpoint signed' },
        })
      }),
    )
  })
  it('promise 3: finds any change of a checkpoint', async () => {
    const { rows, checkpoints } = await aChain()
    await fc.assert(
      fc.asyncProperty(
        fc.nat(checkpoints.length - 1),
        fc.constantFrom('seq', 'hash', 'at', 'signature'),
        fc.integer({ min: 1, max: 9 }),
        async (index, field, by) => {
          const checkpoint = checkpoints[index]!
          const value =
            field === 'seq' || field === 'at'
              ? checkpoint[field] + by
              : `${by}${checkpoint[field].slice(1)}` === checkpoint[field]
                ? 'x'
                : `${by}${checkpoint[field].slice(1)}`
          expect((await verifyRows(rows, checkpoints.with(index, { ...checkpoint, [field]: value }))).ok).toBe(false)
        },
      ),
    )
  })
  it('promise 3: finds a chain that anyone may have begun, where nothing signs it', async () => {
    const entry = { record: { id: 'x', event: 'token.exchange', outcome: 'issued' } as const, detail: '{}', at: 1 }
    const first = link({ seq: 0, hash: EARLIER_GENESIS }, entry)
    const rows = [first, link(first, entry)]
    expect((await verifyRows(rows, [])).problem?.why).toContain('no checkpoint signs any')
    const head = { ...known.chain, seq: 2, hash: rows[1]!.hash, number: null, source: 'this daemon' }
    expect((await verifyRows(rows, [], { heads: [head] })).ok).toBe(true)
  })
  it('holds for a chain that nobody touched, also an empty one', async () => {
    const { rows, checkpoints } = await aChain()
    expect(await verifyRows(rows, checkpoints)).toMatchObject({ ok: true, records: 12, checkpoints: 2, unsigned: 0 })
    expect(await verifyRows(rows, checkpoints.slice(0, 1))).toMatchObject({ ok: true, unsigned: 1 })
    expect(await verifyRows([], [])).toMatchObject({ ok: true, records: 0 })
  })
})

/** The row as somebody would forge it who may write to the store. */
const relinked = (row: AuditRow, head: Head, user?: string): AuditRow => {
  const body = JSON.stringify({
    ...(JSON.parse(row.body) as object),
    prev: head.hash,
    ...(user === undefined ? {} : { user }),
  })
  return { ...row, ...(user === undefined ? {} : { user }), body, hash: hashOf(body) }
}
