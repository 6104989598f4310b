/** A store that loses audit records that it had confirmed, and one that another process writes (faults 103 and 104). */
import { describe, expect, it } from 'vitest'
import type { LostRecords } from '../../src/foundation/audit/continuity.ts'
import type { AuditLogOptions } from '../../src/foundation/audit/log.ts'
import { verifyChains } from '../../src/foundation/audit/verify/verify.ts'
import { refuse } from '../../src/errors.ts'
import type { AuditCheckpoint, AuditRow, AuditStore } from '../../src/foundation/store/records/audit.ts'
import { aLog, append, aRecord, INSTALLATION, signed } from '../support/audit.ts'

/** As Postgres keeps them: a row is appended only after the row that it follows. */
const aSharedStore = () => {
  const state = { rows: [] as AuditRow[], checkpoints: [] as AuditCheckpoint[] }
  const store: AuditStore = {
    joinsWrites: false,
    apply: () => Promise.resolve(),
    node: 'a',
    append(rows, after) {
      const last = state.rows.at(-1)
      if (
        after !== undefined &&
        (last?.seq ?? 0) + (last?.hash ?? '') !== after.seq + (after.seq === 0 ? '' : after.hash)
      )
        return Promise.reject(refuse('conflict', { what: 'audit log' }))
      state.rows.push(...rows)
      return Promise.resolve()
    },
    head: () => Promise.resolve(state.rows.at(-1)),
    chains: () => Promise.resolve(['a']),
    query: ({ afterSeq = 0, event }, { limit }) =>
      Promise.resolve(
        state.rows.filter((row) => row.seq > afterSeq && (event === undefined || row.event === event)).slice(0, limit),
      ),
    addCheckpoint(checkpoint) {
      if (state.checkpoints.every(({ seq }) => seq !== checkpoint.seq)) state.checkpoints.push(checkpoint)
      return Promise.resolve()
    },
    lastCheckpoints: () => Promise.resolve([]),
    lastCheckpoint: () => Promise.resolve(state.checkpoints.at(-1)),
    checkpoints: (_of, { afterSeq, limit } = { afterSeq: 0, limit: Infinity }) =>
      Promise.resolve(state.checkpoints.filter(({ seq }) => seq > afterSeq).slice(0, limit)),
  }
  return { state, store }
}
const prove = (text: string): string => `proved ${text}`
const open = async (store: AuditStore, keep: number) => {
  const noticed: LostRecords[] = []
  const losses: AuditLogOptions['losses'] = {
    keep,
    prove,
    newId: () => 'loss',
    noticed: (lost) => {
      noticed.push(lost)
    },
  }
  return { log: await aLog(store, { losses, checkpointEvery: 4 }), noticed }
}
const verify = (store: AuditStore, proof = prove) =>
  verifyChains(store, {
    installation: INSTALLATION,
    verifySignature: signed,
    isProved: (text, shown) => proof(text) === shown,
  })
const idsOf = (rows: readonly AuditRow[]): string[] => rows.map(({ id }) => id)

describe('fault 104: a store that loses records which it had confirmed', () => {
  for (const moment of ['with the next record', 'at rest'] as const)
    it(`gets the very same again from memory, ${moment}, and a record says so`, async () => {
      const { state, store } = aSharedStore()
      const { log, noticed } = await open(store, 1_000_000)
      await append(log, 6)
      const before = [...state.rows]
      state.rows.splice(3)
      state.checkpoints = []
      if (moment === 'at rest') await log.compare()
      else await log.append(aRecord('next'))
      expect(state.rows.slice(0, 6)).toEqual(before)
      await expect.poll(() => idsOf(state.rows)).toContain('loss')
      expect(noticed).toMatchObject([
        { stored: { seq: 3 }, confirmed: { seq: 6 }, writtenAgain: 3, gone: null, forked: false },
      ])
      expect(await verify(store)).toMatchObject({ ok: true, losses: [] })
      await log.close()
    })

  it('names those that are gone; audit verify tells them from tampering, by a proof of the daemon', async () => {
    const { state, store } = aSharedStore()
    const { log } = await open(store, 900)
    for (let n = 0; n < 9; n += 1) await log.append(aRecord(`r${n}`))
    state.rows.splice(2)
    state.checkpoints = []
    await log.append(aRecord('next'))
    await expect.poll(() => idsOf(state.rows)).toContain('loss')
    const [first] = state.rows.slice(2)
    expect(first!.seq).toBeGreaterThan(4)
    expect(await verify(store)).toMatchObject({
      ok: true,
      losses: [{ node: 'a', from: 3, to: first!.seq - 1, at: expect.any(Number) as number }],
    })
    // Who can write the store has the record, and not the proof.
    expect(await verify(store, (text) => `other ${text}`)).toMatchObject({
      ok: false,
      problem: { why: expect.stringContaining('are missing') as string },
    })
    // Nor does the proof cover another gap.
    state.rows.splice(1, 1)
    expect((await verify(store)).ok).toBe(false)
    await log.append(aRecord('after'))
    await log.close()
  })

  it('goes on where nothing of it is in memory any more', async () => {
    const { state, store } = aSharedStore()
    const first = await open(store, 0)
    await append(first.log, 6)
    state.rows.splice(2)
    state.checkpoints = []
    await first.log.append(aRecord('next'))
    await first.log.append(aRecord('after'))
    await expect.poll(() => idsOf(state.rows)).toContain('loss')
    expect(state.rows[2]).toMatchObject({ seq: 7, id: 'next' })
    expect(await verify(store)).toMatchObject({ ok: true, losses: [{ from: 3, to: 6 }] })
    await first.log.close()
  })
})

describe('fault 103: a chain that another process has gone on with', () => {
  it('recognises what landed by its hash, and writes after what is there', async () => {
    const { state, store } = aSharedStore()
    const { log, noticed } = await open(store, 1_000_000)
    await append(log, 3)
    const twin = await open(store, 1_000_000)
    await append(twin.log, 4)
    await log.append(aRecord('mine'))
    expect(idsOf(state.rows).at(-1)).toBe('mine')
    await twin.log.append(aRecord('its own'))
    expect(idsOf(state.rows)).toHaveLength(9)
    expect([noticed, twin.noticed]).toEqual([[], []])
    expect(await verify(store)).toMatchObject({ ok: true, records: 9 })
    expect(state.rows.some(({ event }) => event === 'audit.unconfirmed')).toBe(false)
    await log.close()
    await twin.log.close()
  })

  it('writes its own records after those of the other, where a store that went back has those in their place', async () => {
    const { state, store } = aSharedStore()
    const { log, noticed } = await open(store, 1_000_000)
    await append(log, 5)
    state.rows.splice(3)
    state.checkpoints = []
    const twin = await open(store, 1_000_000)
    await append(twin.log, 4)
    await log.append(aRecord('mine'))
    await expect.poll(() => idsOf(state.rows)).toContain('loss')
    expect(noticed).toMatchObject([{ forked: true }])
    await expect.poll(() => idsOf(state.rows).filter((id) => id === 'r4')).toHaveLength(1)
    for (const id of ['r0', 'r3']) expect(idsOf(state.rows).filter((each) => each === id)).toHaveLength(2)
    expect(await verify(store)).toMatchObject({ ok: true })
    await log.close()
    await twin.log.close()
  })
})
