import { join, resolve } from 'node:path'
import type { KeysAndStore } from '#daemon/foundation'
import {
  type DurableAuditLog,
  type Follower,
  openSegmentAudit,
  type Pruned,
  type PruneOptions,
  type SegmentAudit,
} from '#foundation/audit'
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

/** Seals and removes on an order, and removes by the settings. */
export interface AuditRetention {
  /** @returns the number of the segment that was sealed; null where the last one has no records */
  seal(): Promise<{ readonly sealed: number | null }>
  /**
   * @param order.age of records that leave (ms); default: by the settings
   * @param order.record writes the record of it
   */
  prune(order: { readonly age?: number | undefined; readonly record: PruneOptions['record'] }): Promise<Pruned>
  /** By the settings, as a duty. */
  keep(): Promise<void>
}

/** Undefined where the store has no segments. */
export const createRetention = (
  { settings, clock, newId }: DaemonContext,
  { segments, audit, followers, prove }: RetentionParts,
): AuditRetention | undefined => {
  if (segments === undefined) return undefined
  const rules = settings.audit.retention
  const prune: AuditRetention['prune'] = ({ age, record }) =>
    segments.prune({
      rules: age === undefined ? rules : { age },
      now: clock.now(),
      confirmed: Math.min(...followers.map((follower) => follower.status().confirmed ?? 0), audit.head.seq),
      prove,
      record,
    })
  return {
    async seal() {
      const before = await sealedIn(segments)
      segments.sealSoon()
      // An empty commit looks after what is due when it has answered, and the next one comes after that.
      await audit.compare()
      await audit.compare()
      const after = await sealedIn(segments)
      return { sealed: after > before ? after : null }
    },
    prune,
    async keep() {
      if (rules.age === undefined && rules.size === undefined) return
      await prune({
        record: (detail) =>
          audit.append({
            id: newId(),
            event: 'audit.prune',
            outcome: 'done',
            detail: { by: 'audit.retention', ...detail },
          }),
      })
    },
  }
}
interface RetentionParts {
  readonly segments: SegmentAudit | undefined
  readonly audit: DurableAuditLog
  readonly followers: readonly Follower[]
  readonly prove: (text: string) => string
}

const sealedIn = async ({ store }: SegmentAudit): Promise<number> =>
  (await store.segments?.())?.findLast(({ sealed }) => sealed)?.number ?? 0

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
