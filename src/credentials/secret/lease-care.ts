import type { Clock, Random } from '#clock'
import { DeputyError, reasonForAdmins } from '#errors'
import type { AuditEvent, AuditLog } from '#foundation/audit'
import type { Envelope } from '#foundation/crypto'
import { type Lease, leaseRecordName, type LeaseStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { isSilence } from './silence.ts'
import { present, type LeaseContent, type LeaseSource } from './backend.ts'

/** A node that makes a credential, or renews or ends a lease, has claimed it for so long (ms); then another may try. */
export const CLAIM_MS = 10_000
/** A lease is no longer handed out when at most this time is left (ms), or a tenth of its duration where that is less. */
const MARGIN_MS = 30_000
/** The least time for which a caller gets a login, where its lease lives so long (ms). */
export const LEAST_USE_MS = 2000
/** A lease is renewed at a random moment between these parts of its duration, so that renewals spread over time. */
const [RENEW_FROM, RENEW_TO] = [0.5, 0.75]
const FIRST_PAUSE_MS = 2000
const MAX_PAUSE_MS = 600_000
/** For so long after the end of a lease Deputy still asks its backend to end it (ms). */
const END_RETRIED_MS = 86_400_000

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

/** The duration of the last renewal (ms). */
export const givenFor = ({ expiresAt, renewedAt }: Lease): number => expiresAt - renewedAt
export const marginOf = (lease: Lease): number => {
  const given = givenFor(lease)
  return Math.min(MARGIN_MS, Math.max(given / 10, Math.min(LEAST_USE_MS, given / 2)))
}

/** Growing pauses between attempts (ms). */
const pauseAfter = (attempts: number): number => Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempts)

/** Renews leases that are used, and ends leases that are over. */
export class LeaseCare {
  readonly #options: LeaseCareOptions
  readonly #prolonging = new Map<string, Promise<boolean>>()

  constructor(options: LeaseCareOptions) {
    this.#options = options
  }

  /** When a lease that was renewed at `now` is renewed next (ms since the epoch). @param duration ms */
  renewAt(now: number, duration: number): number {
    const share = Buffer.from(this.#options.random.bytes(4)).readUInt32BE() / 2 ** 32
    return now + duration * (RENEW_FROM + (RENEW_TO - RENEW_FROM) * share)
  }

  /** Writes an audit record about a lease. */
  record(lease: Lease, event: AuditEvent, detail: object, outcome: 'done' | 'failed' = 'done'): Promise<void> {
    return this.#options.audit.append({
      id: lease.id,
      event,
      outcome,
      tenant: lease.tenant,
      server: lease.server,
      downstream: lease.downstream,
      ...(lease.user === null ? {} : { user: lease.user }),
      detail: { lease: lease.id, backend: lease.backend, role: lease.role, ...detail },
    })
  }

  /**
   * From now on no caller gets the lease.
   * @param at when its backend is asked to end it (ms since the epoch)
   * @returns undefined where it was abandoned or removed already
   */
  async abandon(lease: Lease, at: number): Promise<Lease | undefined> {
    const { store } = this.#options
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

  /**
   * Has the backend end a lease that was abandoned. A lease that was never made has no name at the backend. That its time is over
   * proves nothing: the backend may have failed to end it.
   */
  async end(lease: Lease): Promise<'done' | 'queued'> {
    const { store, clock } = this.#options
    const isPast = lease.expiresAt <= clock.now()
    try {
      const endsByItself = isPast && this.#options.backendOf(lease.backend)?.endsByItself === true
      if (endsByItself && lease.problem !== null && lease.attempts > 0) {
        await this.#writeOff(lease, lease.problem, lease.attempts)
        return 'done'
      }
      if (lease.external !== null && !endsByItself)
        await this.#backendOf(lease).end(lease.external, this.#contentOf(lease))
      await this.record(lease, 'lease.end', { attempts: lease.attempts + 1 })
      await store.remove(lease.id)
      return 'done'
    } catch (error) {
      return this.#endFailed(lease, reasonForAdmins(error))
    }
  }

  /**
   * Whether a lease that is about to end continues; requests share one renewal. While its backend is silent it is not abandoned,
   * because no other could be made. @throws DeputyError `secret_backend_unavailable`
   */
  canContinue(lease: Lease): Promise<boolean> {
    if (!this.#mayOutlastItsEnd(lease)) return Promise.resolve(false)
    const work =
      this.#prolonging.get(lease.id) ?? this.#isProlonged(lease).finally(() => this.#prolonging.delete(lease.id))
    this.#prolonging.set(lease.id, work)
    return work
  }

  /** Does what is due: ends a lease that was abandoned, removes a note that its maker has left, or renews. */
  async attend(lease: Lease): Promise<void> {
    const { store, clock, logger } = this.#options
    try {
      if (isOver(lease.state)) {
        // Claimed: other nodes do not end it meanwhile.
        await this.end(await store.update({ ...lease, nextAt: clock.now() + CLAIM_MS }))
      } else if (lease.state === 'making') await store.remove(lease.id)
      else await this.#renew(lease)
    } catch (error) {
      if (!isConflict(error)) logger.warn({ err: error, lease: lease.id }, 'care of a lease failed; retrying')
    }
  }

  async #endFailed(lease: Lease, problem: string): Promise<'done' | 'queued'> {
    const { store, clock, logger } = this.#options
    const attempts = lease.attempts + 1
    if (lease.external !== null && lease.expiresAt + END_RETRIED_MS <= clock.now()) {
      await this.#writeOff(lease, problem, attempts)
      return 'done'
    }
    logger.warn({ lease: lease.id, backend: lease.backend, problem }, 'a lease was not ended at its backend; retrying')
    const nextAt = clock.now() + pauseAfter(attempts)
    await store.update({ ...lease, attempts, nextAt, problem }).catch(() => undefined)
    return 'queued'
  }

  /** The backend did not end the lease, and is asked no more: an admin has to know. */
  async #writeOff(lease: Lease, problem: string, attempts: number): Promise<void> {
    this.#options.logger.error(
      { lease: lease.id, backend: lease.backend, external: lease.external, problem },
      'lease written off: its backend did not end it; its credential may still work there',
    )
    await this.record(lease, 'lease.end', { attempts, given_up: true, problem }, 'failed')
    await this.#options.store.remove(lease.id)
  }

  async #endNow(lease: Lease): Promise<void> {
    const abandoned = await this.abandon(lease, this.#options.clock.now() + CLAIM_MS)
    if (abandoned !== undefined) await this.end(abandoned)
  }

  async #renew(lease: Lease): Promise<void> {
    const { store, clock } = this.#options
    const now = clock.now()
    const isUsed = lease.usedAt >= lease.renewedAt
    if (lease.external === null || (lease.expiresAt <= now && !(isUsed && this.#mayOutlastItsEnd(lease)))) {
      await this.#endNow(lease)
      return
    }
    // Not used since its last renewal: it may end.
    if (!isUsed) {
      await store.update({ ...lease, nextAt: lease.expiresAt })
      return
    }
    const claimed = await store.update({ ...lease, nextAt: now + CLAIM_MS })
    try {
      const renewed = await this.#prolong(claimed)
      if (renewed === undefined || renewed.expiresAt <= clock.now()) await this.#endNow(renewed ?? claimed)
    } catch (error) {
      if (isConflict(error)) return
      const after = clock.now()
      if (lease.expiresAt <= after) {
        await this.#endNow(claimed)
        return
      }
      const attempts = lease.attempts + 1
      // The nearer the end, the shorter the pause.
      const pause = Math.min(pauseAfter(attempts), (lease.expiresAt - after) / 2)
      await store.update({ ...claimed, attempts, problem: reasonForAdmins(error), nextAt: after + pause })
    }
  }

  /**
   * Renews a lease at its backend. @returns undefined where the backend has ended it. @throws DeputyError `conflict`,
   * and what the backend throws
   */
  async #prolong(lease: Lease): Promise<Lease | undefined> {
    const { store, clock } = this.#options
    const renewed = await this.#backendOf(lease).renew(lease.external!, lease.duration, lease.parent)
    if (renewed === undefined) return undefined
    const renewedAt = clock.now()
    const expiresAt = renewedAt + renewed.duration
    const nextAt = renewed.isLast ? expiresAt : this.renewAt(renewedAt, renewed.duration)
    return store.update({ ...lease, renewedAt, expiresAt, nextAt, attempts: 0, problem: null })
  }

  async #isProlonged(lease: Lease): Promise<boolean> {
    const { clock } = this.#options
    try {
      const renewed = await this.#prolong(lease)
      return renewed !== undefined && renewed.expiresAt - clock.now() > marginOf(renewed)
    } catch (error) {
      if (isConflict(error)) return true
      if (isSilence(error) && lease.expiresAt > clock.now()) throw error
      return false
    }
  }

  /** The recorded end may be that of its parent; only the backend knows whether the parent has been renewed since. */
  #mayOutlastItsEnd(lease: Lease): boolean {
    return (
      lease.external !== null && lease.parent !== null && this.#options.backendOf(lease.backend)?.hasParents === true
    )
  }

  #backendOf({ backend }: Lease): LeaseSource {
    return present(this.#options.backendOf(backend), backend)
  }

  #contentOf(lease: Lease): LeaseContent {
    return {
      tenant: lease.tenant,
      downstream: lease.downstream,
      open: () => this.#options.envelope.open(leaseRecordName(lease), lease.sealed!),
    }
  }
}
