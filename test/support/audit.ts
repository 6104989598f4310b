import { generateKeyPairSync, sign, verify } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { DurableAuditLog, type AuditLogOptions } from '../../src/foundation/audit/log.ts'
import type { AuditRecord } from '../../src/foundation/audit/record.ts'
import type { AuditSink } from '../../src/foundation/audit/sinks/sink.ts'
import { verifyChains, type KnownOfAll, type Verification } from '../../src/foundation/audit/verify/verify.ts'
import { systemClock } from '../../src/clock.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import type { AuditCheckpoint, AuditRow, AuditStore } from '../../src/foundation/store/records/audit.ts'
import type { Store } from '../../src/foundation/store/store.ts'
import { borrowStore } from './stores.ts'

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
export const signer: AuditLogOptions['sign'] = (bytes) => ({ kid: 'k', signature: sign('sha256', bytes, privateKey) })
export const signed = (_kid: string, bytes: Uint8Array, signature: Uint8Array): boolean =>
  verify('sha256', bytes, publicKey, signature)

export const INSTALLATION = 'an-installation'
/** What a verifier knows of the chain that `aLog` writes in an embedded store. */
export const known = { chain: { installation: INSTALLATION, node: 'local' }, verifySignature: signed }

export const aFolder = async (): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-audit-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}
export const aWholeStore = async (): Promise<Store> => {
  const { store, close } = await borrowStore()
  onTestFinished(close)
  return store
}
export const aStore = async (): Promise<AuditStore> => (await aWholeStore()).audit
export const aLog = (store: AuditStore, over: Partial<AuditLogOptions> = {}): Promise<DurableAuditLog> =>
  DurableAuditLog.open({
    store,
    sinks: [],
    clock: systemClock,
    // What answers in the end is waited for, on a busy machine too; a test of what hangs has a shorter one.
    deadline: 20_000,
    installation: INSTALLATION,
    checkpointEvery: 10,
    checkpointWithin: 60_000,
    sign: signer,
    telemetry: noTelemetry,
    logger: silentLogger,
    ...over,
  })
export const aRecord = (id: string, over: Partial<AuditRecord> = {}): AuditRecord => ({
  id,
  event: 'token.exchange',
  outcome: 'issued',
  tenant: 'acme',
  detail: { asked: { scopes: ['read'] } },
  ...over,
})
export const append = async (log: DurableAuditLog, count: number): Promise<void> => {
  await Promise.all(Array.from({ length: count }, (_, index) => log.append(aRecord(`r${index}`))))
}
/** A sink that does as it is told. */
export const aSink = (write: AuditSink['write']): AuditSink => ({
  name: 'other',
  write,
  close: () => Promise.resolve(),
})

const KNOWN_OF_ALL: KnownOfAll = { installation: INSTALLATION, verifySignature: signed, isProved: () => false }

export const check = (store: AuditStore, over: Partial<KnownOfAll> = {}): Promise<Verification> =>
  verifyChains(store, { ...KNOWN_OF_ALL, ...over })

/** Verifies what a store says that has these rows and checkpoints, and nothing else. */
export const verifyRows = (
  rows: readonly AuditRow[],
  checkpoints: readonly AuditCheckpoint[],
  over: Partial<KnownOfAll> = {},
): Promise<Verification> => {
  const store: Pick<AuditStore, 'node' | 'chains' | 'query' | 'checkpoints'> = {
    node: 'local',
    chains: () => Promise.resolve(rows.length > 0 ? ['local'] : []),
    query: ({ afterSeq = 0 }, { limit }) => Promise.resolve(rows.filter(({ seq }) => seq > afterSeq).slice(0, limit)),
    checkpoints: (_of, { afterSeq, limit } = { afterSeq: 0, limit: Infinity }) =>
      Promise.resolve(
        [...checkpoints]
          .sort((a, b) => a.seq - b.seq)
          .filter(({ seq }) => seq > afterSeq)
          .slice(0, limit),
      ),
  }
  return check(store as AuditStore, over)
}
/** What the store tells, in order: id and event. */
export const told = async (store: AuditStore): Promise<string[]> =>
  (await store.query({}, { limit: 1000 })).map(({ id, event }) => `${id} ${event}`)
/** The numbers of the records in a file. */
export const linesOf = async (path: string): Promise<number[]> =>
  (await readFile(path, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { record: { seq: number } }).record.seq)
export const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1)
