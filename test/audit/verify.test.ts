import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { verifyChain } from '../../src/audit/verify.ts'
import type { AuditCheckpoint, AuditRow } from '../../src/store/store.ts'
import { aLog, append, aStore, signed } from '../support/audit.ts'

describe('verifying the chain', () => {
  const aChain = async (): Promise<{ rows: AuditRow[]; checkpoints: AuditCheckpoint[] }> => {
    const store = await aStore()
    const log = await aLog(store)
    await append(log, 12)
    await log.close()
    return { rows: await store.query({}, { limit: 99 }), checkpoints: await store.checkpoints() }
  }

  it('promise 3: finds any change of any field of any record, at that record', async () => {
    const { rows, checkpoints } = await aChain()
    const fields = ['seq', 'id', 'at', 'event', 'outcome', 'tenant', 'user', 'server', 'downstream', 'body', 'hash'] as const
    await fc.assert(fc.asyncProperty(fc.nat(rows.length - 1), fc.constantFrom(...fields), fc.string(), async (index, field, text) => {
      const row = rows[index]!
      const value = typeof row[field] === 'number' ? row[field] + 1 + text.length : `${row[field]}${text}!`
      const result = await verifyChain(rows.with(index, { ...row, [field]: value }), checkpoints, signed)
      expect(result.ok).toBe(false)
    }))
  })
  it('promise 3: finds a removed record and two that changed places', async () => {
    const { rows, checkpoints } = await aChain()
    await fc.assert(fc.asyncProperty(fc.nat(rows.length - 2), async (index) => {
      expect((await verifyChain(rows.toSpliced(index, 1), checkpoints, signed)).ok).toBe(false)
      expect((await verifyChain(rows.with(index, rows[index + 1]!).with(index + 1, rows[index]!), checkpoints, signed)).ok).toBe(false)
    }))
  })
  it('promise 3: finds a tail that was cut off and a checkpoint that was not signed', async () => {
    const { rows, checkpoints } = await aChain()
    expect(await verifyChain(rows.slice(0, -1), checkpoints, signed)).toMatchObject({ ok: false, problem: { seq: 12 } })
    const forged = checkpoints.map((checkpoint) => ({ ...checkpoint, signature: Buffer.alloc(70).toString('base64url') }))
    expect((await verifyChain(rows, forged, signed)).problem?.why).toContain('signature')
  })
})
