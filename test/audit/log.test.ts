import { generateKeyPairSync, sign, verify } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rename, rm, stat, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as after } from 'node:timers/promises'
import * as fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { createFileSink } from '../../src/audit/file-sink.ts'
import { DurableAuditLog, type AuditLogOptions } from '../../src/audit/log.ts'
import type { AuditRecord } from '../../src/audit/record.ts'
import type { AuditSink } from '../../src/audit/sink.ts'
import { allRecords, verifyChain } from '../../src/audit/verify.ts'
import { createLogger } from '../../src/observe/pino-logger.ts'
import { noTelemetry } from '../../src/observe/telemetry.ts'
import { openSqliteStore } from '../../src/store/sqlite/open.ts'
import type { AuditCheckpoint, AuditRow, AuditStore } from '../../src/store/store.ts'

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const signer: AuditLogOptions['sign'] = (bytes) => ({ kid: 'k', signature: sign('sha256', bytes, privateKey) })
const signed = (_kid: string, bytes: Uint8Array, signature: Uint8Array): boolean => verify('sha256', bytes, publicKey, signature)

const aFolder = async (): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-audit-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}
const aStore = async () => {
  const store = await openSqliteStore({ path: join(await aFolder(), 'deputy.db') })
  onTestFinished(() => store.close())
  return store.audit
}
const aLog = (store: AuditStore, over: Partial<AuditLogOptions> = {}): Promise<DurableAuditLog> => DurableAuditLog.open({
  store, sinks: [], clock: systemClock, deadline: 300, checkpointEvery: 10, sign: signer, telemetry: noTelemetry, logger: createLogger({ level: 'silent' }), ...over,
})
const aRecord = (id: string): AuditRecord => ({ id, event: 'token.exchange', outcome: 'issued', tenant: 'acme', detail: { asked: { scopes: ['read'] } } })
const check = async (store: AuditStore) => verifyChain(allRecords(store), await store.checkpoints(), signed)
const append = async (log: DurableAuditLog, count: number): Promise<void> => {
  await Promise.all(Array.from({ length: count }, (_, index) => log.append(aRecord(`r${index}`))))
}
/** A sink that waits as long as it is told to. */
const aSink = (write: AuditSink['write']): AuditSink => ({ name: 'other', write, close: () => Promise.resolve() })
const linesOf = async (path: string): Promise<number[]> =>
  (await readFile(path, 'utf8')).trimEnd().split('\n').map((line) => (JSON.parse(line) as { record: { seq: number } }).record.seq)
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1)

describe('the audit log', () => {
  it('chains concurrent records, signs checkpoints and goes on after a restart', async () => {
    const store = await aStore()
    const first = await aLog(store)
    await append(first, 25)
    await first.close()
    const second = await aLog(store)
    await append(second, 5)
    await second.close()
    expect(await check(store)).toMatchObject({ ok: true, records: 30 })
    expect((await store.checkpoints()).at(-1)?.seq).toBe(30)
  })

  it('promise 3: a record is in the store and in the file before append resolves', async () => {
    const [store, path] = [await aStore(), join(await aFolder(), 'audit.jsonl')]
    const log = await aLog(store, { sinks: [createFileSink(path)] })
    onTestFinished(() => log.close())
    await log.append(aRecord('one'))
    expect(await store.query({ id: 'one' }, { limit: 1 })).toHaveLength(1)
    expect(await linesOf(path)).toEqual([1])
    expect((await stat(path)).mode & 0o777).toBe(0o600)
  })

  it('threat 29: a blocked sink refuses within the deadline, and the log recovers with it', async () => {
    const store = await aStore()
    const got: number[] = []
    const gate = Promise.withResolvers<void>()
    const log = await aLog(store, { sinks: [aSink(async (rows) => { await gate.promise; got.push(...rows.map(({ seq }) => seq)) })] })
    const began = performance.now()
    await expect(log.append(aRecord('a'))).rejects.toMatchObject({ code: 'audit_unavailable', facts: { sink: 'other' } })
    await expect(log.append(aRecord('b'))).rejects.toMatchObject({ code: 'audit_unavailable' })
    expect(performance.now() - began).toBeLessThan(1000)
    expect(log.status()).toMatchObject([{ name: 'store', ok: true }, { name: 'other', ok: false }])
    gate.resolve()
    await after(20)
    await log.append(aRecord('c'))
    expect([...new Set(got)]).toEqual([1, 2, 3])
    expect(log.status().every(({ ok }) => ok)).toBe(true)
    await log.close()
    expect(await check(store)).toMatchObject({ ok: true, records: 3 })
  })

  it('threat 29: a store write that lands after its deadline does not fork the chain', async () => {
    const store = await aStore()
    const gate = Promise.withResolvers<void>()
    let slow = true
    const log = await aLog({ ...store, append: async (rows) => { if (slow) await gate.promise; await store.append(rows) } })
    await expect(log.append(aRecord('late'))).rejects.toMatchObject({ code: 'audit_unavailable', facts: { sink: 'store' } })
    slow = false
    gate.resolve()
    await after(50)
    await log.append(aRecord('next'))
    await log.close()
    expect(await check(store)).toMatchObject({ ok: true, records: 2 })
  })

  it('threat 29: a full store refuses, and the chain goes on when there is room', async () => {
    const store = await aStore()
    let full = true
    const log = await aLog({ ...store, append: (rows) => full ? Promise.reject(new Error('database or disk is full')) : store.append(rows) })
    await expect(log.append(aRecord('a'))).rejects.toMatchObject({ code: 'audit_unavailable' })
    full = false
    await log.append(aRecord('b'))
    await log.close()
    expect(await check(store)).toMatchObject({ ok: true, records: 1 })
  })

  it('threat 29: makes a deleted or rotated file anew', async () => {
    const path = join(await aFolder(), 'audit.jsonl')
    const log = await aLog(await aStore(), { sinks: [createFileSink(path)] })
    onTestFinished(() => log.close())
    await log.append(aRecord('a'))
    await rename(path, `${path}.1`)
    await log.append(aRecord('b'))
    await rm(path)
    await log.append(aRecord('c'))
    expect(await linesOf(`${path}.1`)).toEqual([1])
    expect(await linesOf(path)).toEqual([3])
  })

  it('threat 29: refuses when its file was cut short', async () => {
    const path = join(await aFolder(), 'audit.jsonl')
    const log = await aLog(await aStore(), { sinks: [createFileSink(path)] })
    onTestFinished(() => log.close())
    await append(log, 3)
    await truncate(path, 10)
    await expect(log.append(aRecord('b'))).rejects.toMatchObject({ code: 'audit_unavailable' })
  })

  it('threat 29: writes to its file again when the folder that had gone is back', async () => {
    const folder = join(await aFolder(), 'logs')
    const path = join(folder, 'audit.jsonl')
    await mkdir(folder)
    const log = await aLog(await aStore(), { sinks: [createFileSink(path)] })
    onTestFinished(() => log.close())
    await log.append(aRecord('a'))
    await rm(folder, { recursive: true })
    await expect(log.append(aRecord('b'))).rejects.toMatchObject({ code: 'audit_unavailable' })
    await mkdir(folder)
    await log.append(aRecord('c'))
    expect(await linesOf(path)).toEqual([2, 3])
  })

  // A known defect: at start a sink is taken to have all that the store has.
  it.fails('leaves no gap in its file when the daemon ended between the store and the file', async () => {
    const [store, path] = [await aStore(), join(await aFolder(), 'audit.jsonl')]
    const first = await aLog(store, { sinks: [createFileSink(path)] })
    await first.append(aRecord('a'))
    await first.close()
    const cut = await aLog(store, { sinks: [aSink(() => Promise.reject(new Error('the process ends here')))] })
    await expect(cut.append(aRecord('b'))).rejects.toMatchObject({ code: 'audit_unavailable' })
    const next = await aLog(store, { sinks: [createFileSink(path)] })
    onTestFinished(() => next.close())
    await next.append(aRecord('c'))
    expect(await linesOf(path)).toEqual(upTo(3))
  })
})

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
