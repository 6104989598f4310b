import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { AuditLogOptions } from '../../src/foundation/audit/log.ts'
import type { DurableAuditLog } from '../../src/foundation/audit/log.ts'
import {
  openSegmentAudit,
  type SegmentAudit,
  type SegmentOptions,
} from '../../src/foundation/audit/segments/segment-store.ts'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { aFolder, aLog, INSTALLATION, signer } from './audit.ts'

export const RULES = { size: 67_108_864, age: 86_400_000 }

/** An audit log in files, beside a database in the same folder. */
export const openAudit = async (home: string, over: Partial<SegmentOptions> = {}): Promise<SegmentAudit> => {
  const database = await openSqliteStore({ path: join(home, 'deputy.db') })
  const audit = await openSegmentAudit({
    folder: join(home, 'audit'),
    chain: { installation: INSTALLATION, node: 'local' },
    rules: RULES,
    tables: database.audit,
    sign: signer,
    logger: silentLogger,
    ...over,
  }).catch(async (error: unknown) => {
    await database.close()
    throw error
  })
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => {
    closed ??= audit.close().then(() => database.close())
    return closed
  }
  return { ...audit, close }
}

/** One that is closed when the test ends. */
export const aSegmentAudit = async (
  folder?: string,
  over: Partial<SegmentOptions> = {},
): Promise<SegmentAudit & { readonly folder: string }> => {
  const home = folder ?? (await aFolder())
  const audit = await openAudit(home, over)
  onTestFinished(audit.close)
  return { ...audit, folder: home }
}

/** A log that writes into the files. */
export const aSegmentLog = (
  { store, openChain }: SegmentAudit,
  over: Partial<AuditLogOptions> = {},
): Promise<DurableAuditLog> => aLog(store, { openChain, ...over })
