import type { Clock, Random } from '#clock'
import { DeputyError, reasonForAdmins } from '#errors'
import type { AuditEvent, AuditLog } from '#foundation/audit'
import type { Envelope } from '#foundation/crypto'
import { type Lease, leaseRecordName, type LeaseStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { isSilence } from './silence.ts'
import { present, type LeaseContent, type LeaseSource } from './backend.ts'

/** How long one that asks for a credential, or looks after a lease, has for it before another may try (ms). */
export const CLAIM_MS = 10_000
/** A lease that is nearer to its end is not handed out any more (ms), or at a tenth of its duration where that is less. */
const MARGIN_MS = 30_000
/** A caller gets a login for at least so long, where it lives so long at all (ms). */
export const LEAST_USE_MS = 2000
/** Renewed at a random moment between these parts of its duration, so that leases that began together do not stay together. */
const [RENEW_FROM, RENEW_TO] = [0.5, 0.75]
const FIRST_PAUSE_MS = 2000
const LONGEST_PAUSE_MS = 600_000
/** For so long after its end a backend is asked to end a lease (ms). */
const ASKED_ON_MS = 86_400_000

export interface LeaseCareOptions {
  readonly store: LeaseStore
  readonly envelope: Envelope
  readonly backendOf: (id: string) => LeaseSource | undefined
  readonly audit: AuditLog
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

export const isConflict = (error: unknown): boolean => error instanceof DeputyError && error.code === 'conflict'
export const isOver = (state: Lease['state']): boolean => state === 'ending'

/** For how long it was given when it was last renewed (ms). */
export const givenFor = ({ expiresAt, renewedAt }: Lease): number => expiresAt - renewedAt
export const marginOf = (lease: Lease): number => {
  const given = givenFor(lease)
  return Math.min(MARGIN_MS, Math.max(given / 10, Math.min(LEAST_USE_MS, given / 2)))
}

/** Renews leases that are used, and ends those that are over. */
export const createLeaseCare = (options: LeaseCareOptions) => {
  const { store, clock, logger } = options
  const backendOf = (id: string): LeaseSource => present(options.backendOf(id), id)
  const renewAt = (now: number, duration: number): number => {
    const share = Buffer.from(options.random.bytes(4)).readUInt32BE() / 2 ** 32
    return now + duration * (RENEW_FROM + (RENEW_TO - RENEW_FROM) * share)
  }
  const pauseFrom = (attempts: number): number => Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempts)

  const record = (
    lease: Lease,
    event: AuditEvent,
    detail: object,
    outcome: 'done' | 'failed' = 'done',
  ): Promise<void> =>
    options.audit.append({
      id: lease.id,
      event,
      outcome,
      tenant: lease.tenant,
      server: lease.server,
      downstream: lease.downstream,
      ...(lease.user === null ? {} : { user: lease.user }),
      detail: { lease: lease.id, backend: lease.backend, role: lease.role, ...detail },
    })
  const contentOf = (lease: Lease): LeaseContent => ({
    tenant: lease.tenant,
    downstream: lease.downstream,
    open: () => options.envelope.open(leaseRecordName(lease), lease.sealed!),
  })

  /** From now on no caller gets it; `at`: when its backend is asked to end it (ms since the epoch). */
  const abandon = async (lease: Lease, at: number): Promise<Lease | undefined> => {
    for (
      let current: Lease | undefined = lease;
      current !== undefined && !isOver(current.state);
      [current] = await store.list({ id: lease.id })
    ) {
      try {
        return await store.update({ ...current, state: 'ending', attempts: 0, nextAt: at })
      } catch (error) {
        if (!isConflict(error)) throw error
      }
    }
    return undefined
  }

  /** It could not be ended, and is not asked for any more: a person has to know. */
  const writeOff = async (lease: Lease, problem: string, attempts: number): Promise<void> => {
    logger.error(
      { lease: lease.id, backend: lease.backend, external: lease.external, problem },
      'lease given up: its backend did not end it; what it gave may still work there',
    )
    await record(lease, 'lease.end', { attempts, given_up: true, problem }, 'failed')
    await store.remove(lease.id)
  }

  /** Has the backend end it. What the backend was never asked for has no name there. That its time is over is no answer: the backend may have failed to end it. */
  const end = async (lease: Lease): Promise<'done' | 'queued'> => {
    const isPast = lease.expiresAt <= clock.now()
    try {
      const carriesItsEnd = isPast && options.backendOf(lease.backend)?.endsByItself === true
      if (carriesItsEnd && lease.problem !== null && lease.attempts > 0) {
        await writeOff(lease, lease.problem, lease.attempts)
        return 'done'
      }
      if (lease.external !== null && !carriesItsEnd)
        await backendOf(lease.backend).end(lease.external, contentOf(lease))
      await record(lease, 'lease.end', { attempts: lease.attempts + 1 })
      await store.remove(lease.id)
      return 'done'
    } catch (error) {
      const attempts = lease.attempts + 1
      const problem = reasonForAdmins(error)
      if (lease.external !== null && lease.expiresAt + ASKED_ON_MS <= clock.now()) {
        await writeOff(lease, problem, attempts)
        return 'done'
      }
      logger.warn(
        { lease: lease.id, backend: lease.backend, problem },
        'a lease could not be ended at its backend; it is tried again',
      )
      await store
        .update({ ...lease, attempts, nextAt: clock.now() + pauseFrom(attempts), problem })
        .catch(() => undefined)
      return 'queued'
    }
  }

  const endNow = async (lease: Lease): Promise<void> => {
    const given = await abandon(lease, clock.now() + CLAIM_MS)
    if (given !== undefined) await end(given)
  }

  /**
   * Another time from its backend. @returns undefined where the backend has ended it. @throws DeputyError `conflict`,
   * and what the backend throws
   */
  const prolong = async (lease: Lease): Promise<Lease | undefined> => {
    const renewed = await backendOf(lease.backend).renew(lease.external!, lease.duration, lease.parent)
    if (renewed === undefined) return undefined
    const renewedAt = clock.now()
    const expiresAt = renewedAt + renewed.duration
    const nextAt = renewed.isLast ? expiresAt : renewAt(renewedAt, renewed.duration)
    return store.update({ ...lease, renewedAt, expiresAt, nextAt, attempts: 0, problem: null })
  }

  /**
   * The end that is written down may be that of its parent then; only the backend knows whether the parent has been
   * renewed since.
   */
  const mayOutlastItsEnd = (lease: Lease): boolean =>
    lease.external !== null && lease.parent !== null && options.backendOf(lease.backend)?.hasParents === true

  const renew = async (lease: Lease): Promise<void> => {
    const now = clock.now()
    const isUsed = lease.usedAt >= lease.renewedAt
    if (lease.external === null || (lease.expiresAt <= now && !(isUsed && mayOutlastItsEnd(lease)))) {
      await endNow(lease)
      return
    }
    // Not used since: it may end.
    if (!isUsed) {
      await store.update({ ...lease, nextAt: lease.expiresAt })
      return
    }
    const claimed = await store.update({ ...lease, nextAt: now + CLAIM_MS })
    try {
      const renewed = await prolong(claimed)
      if (renewed === undefined || renewed.expiresAt <= clock.now()) await endNow(renewed ?? claimed)
    } catch (error) {
      if (isConflict(error)) return
      const after = clock.now()
      if (lease.expiresAt <= after) {
        await endNow(claimed)
        return
      }
      const attempts = lease.attempts + 1
      // The nearer the end, the shorter the pause.
      const pause = Math.min(pauseFrom(attempts), (lease.expiresAt - after) / 2)
      await store.update({ ...claimed, attempts, problem: reasonForAdmins(error), nextAt: after + pause })
    }
  }

  const prolonging = new Map<string, Promise<boolean>>()
  /**
   * Whether a lease that is about to end can go on; requests share one renewal. While its backend is silent it is not
   * given up,
   * because no other could be made. @throws DeputyError `secret_backend_unavailable`
   */
  const canGoOn = (lease: Lease): Promise<boolean> => {
    if (!mayOutlastItsEnd(lease)) return Promise.resolve(false)
    const work =
      prolonging.get(lease.id) ??
      (async () => {
        try {
          const renewed = await prolong(lease)
          return renewed !== undefined && renewed.expiresAt - clock.now() > marginOf(renewed)
        } catch (error) {
          if (isConflict(error)) return true
          if (isSilence(error) && lease.expiresAt > clock.now()) throw error
          return false
        }
      })().finally(() => prolonging.delete(lease.id))
    prolonging.set(lease.id, work)
    return work
  }

  /** Does what is due. */
  const attend = async (lease: Lease): Promise<void> => {
    try {
      if (isOver(lease.state)) {
        // Others leave it alone for a while.
        await end(await store.update({ ...lease, nextAt: clock.now() + CLAIM_MS }))
      } else if (lease.state === 'making') await store.remove(lease.id)
      else await renew(lease)
    } catch (error) {
      if (!isConflict(error))
        logger.warn({ err: error, lease: lease.id }, 'a lease was not looked after; it is again in a second')
    }
  }

  return { record, abandon, end, attend, renewAt, canGoOn }
}
