import { join, resolve } from 'node:path'
import type { KeysAndStore } from '#daemon/foundation'
import { type DurableAuditLog, openSegmentAudit, type SegmentAudit } from '#foundation/audit'
import type { DaemonContext } from '../context.ts'

/**
 * The audit log of an embedded store, in files beside the database.
 * @throws DeputyError `start_failed` where its chain cannot be gone on with
 */
export const openSegments = async (
  { settings, home, logger, atEnd }: DaemonContext,
  { store, signingKeys }: Pick<KeysAndStore, 'store' | 'signingKeys'>,
  installation: string,
): Promise<SegmentAudit | undefined> => {
  if (store.cluster !== undefined) return undefined
  const segments = await openSegmentAudit({
    folder: join(resolve(home, settings.state), 'audit'),
    chain: { installation, node: store.audit.node },
    rules: settings.audit.segment,
    tables: store.audit,
    sign: (bytes) => signingKeys.sign('checkpoint', bytes),
    logger,
  })
  atEnd(() => segments.close())
  return segments
}

/** What the start has found that was not as it was written is in the log as well. */
export const recordRecovery = async (
  audit: DurableAuditLog,
  segments: SegmentAudit | undefined,
  newId: () => string,
): Promise<void> => {
  if (segments === undefined || segments.problems.length === 0) return
  const detail = { problems: segments.problems }
  await audit.append({ id: newId(), event: 'audit.recovery', outcome: 'failed', detail })
}
