import { refuse } from '#errors'
import { within } from '#foundation/async'
import type { Envelope, Secret } from '#foundation/crypto'
import { type Lease, leaseRecordName, type LeaseStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { Clock } from '#clock'
import type { LeaseSource, MadeSecret } from './backend.ts'
import { CLAIM_MS, givenFor, LEAST_USE_MS, type LeaseCare, marginOf } from './lease-care.ts'

/** The note that a credential is being made is renewed so often (ms), so that it outlives a dead process by its own time only. */
const NOTE_RENEWED_MS = CLAIM_MS / 3
/**
 * A credential is handed out for this part of its lease's duration: a caller that uses it for longer asks again before the
 * lease is renewed.
 */
const HANDED_OUT = 1 / 3
/** At the end of the process credentials that are being made have so long (ms). */
const FAREWELL_MS = 2000

/** A credential under a lease, as a caller gets it. */
export interface LeasedSecret {
  readonly value: Secret
  readonly lease: string
  readonly expiresAt: number
}

export interface LeaseMakingOptions {
  readonly store: LeaseStore
  readonly envelope: Envelope
  readonly backendOf: (id: string) => LeaseSource | undefined
  readonly care: LeaseCare
  readonly clock: Clock
  readonly logger: Logger
}

/**
 * Makes credentials, each under a note that is durable before its backend is asked. The making continues when the caller has
 * stopped waiting: the next request gets the credential, or it is ended.
 */
export class LeaseMaking {
  readonly #options: LeaseMakingOptions
  readonly #underWay = new Set<Promise<unknown>>()

  constructor(options: LeaseMakingOptions) {
    this.#options = options
  }

  /**
   * @param note claimed by this process until its `expiresAt`
   * @param patience how long the caller waits (ms)
   * @throws DeputyError `secret_backend_unavailable` when that is over, and what `make` throws
   */
  make(note: Lease, make: () => Promise<MadeSecret>, patience: number): Promise<LeasedSecret> {
    const work = this.#make(note, make)
    const done: Promise<unknown> = work
      .catch((error: unknown) => {
        this.#options.logger.debug({ err: error, lease: note.id }, 'a credential could not be made')
      })
      .finally(() => this.#underWay.delete(done))
    this.#underWay.add(done)
    return within(patience, work, () => stillBeingMade(note.backend))
  }

  /** The credential of an active lease, which counts as used from now on. */
  async handOut(lease: Lease): Promise<LeasedSecret> {
    const { store, clock, envelope } = this.#options
    const now = clock.now()
    await store.touch(lease.id, now)
    const use = Math.max(givenFor(lease) * HANDED_OUT, marginOf(lease), LEAST_USE_MS)
    return {
      value: await envelope.open(leaseRecordName(lease), lease.sealed!),
      lease: lease.id,
      expiresAt: Math.min(lease.expiresAt, now + use),
    }
  }

  /** Waits for credentials that are being made. One that comes too late ends with its own lease. */
  async close(): Promise<void> {
    await within(FAREWELL_MS, Promise.all(this.#underWay), () => new Error('late')).catch(() => {
      this.#options.logger.warn(
        { making: this.#underWay.size },
        'credentials were still being made at the end; they end with their own leases',
      )
    })
  }

  async #make(note: Lease, make: () => Promise<MadeSecret>): Promise<LeasedSecret> {
    const claim = this.#renewNote(note)
    let made: MadeSecret
    try {
      made = await make()
    } catch (error) {
      claim.release()
      await this.#options.store.remove(note.id).catch(() => undefined)
      throw error
    }
    claim.release()
    return this.#activate(note, claim.current, made)
  }

  /** Renews the note while the backend is at work, for however long that takes. */
  #renewNote(note: Lease): { readonly current: () => Promise<Lease>; release(): void } {
    const { store, clock } = this.#options
    let current = Promise.resolve(note)
    const timer = setInterval(() => {
      current = current.then((lease) => {
        const now = clock.now()
        return store.update({ ...lease, expiresAt: now + CLAIM_MS, nextAt: now + CLAIM_MS * 2 })
      })
      current.catch(() => undefined)
    }, NOTE_RENEWED_MS)
    timer.unref()
    return {
      current: () => current,
      release() {
        clearInterval(timer)
      },
    }
  }

  /** Writes the credential into its note, which becomes a lease, or ends it where that fails. */
  async #activate(note: Lease, current: () => Promise<Lease>, made: MadeSecret): Promise<LeasedSecret> {
    const { store, clock, envelope, care } = this.#options
    let stored: Lease | undefined
    try {
      const claimed = await current()
      const now = clock.now()
      const expiresAt = Math.min(now + made.duration, made.parent?.endsAt ?? Infinity)
      stored = await store.update({
        ...claimed,
        state: 'active',
        external: made.lease,
        sealed: await envelope.seal(leaseRecordName(note), made.value),
        duration: made.duration,
        renewedAt: now,
        expiresAt,
        nextAt: made.renewable ? care.renewAt(now, expiresAt - now) : expiresAt,
        parent: made.parent?.name ?? null,
      })
      await care.record(stored, 'lease.begin', { expires_at: stored.expiresAt })
      return await this.handOut(stored)
    } catch (error) {
      await this.#discard(note, made, stored)
      throw error
    }
  }

  /** Ends a credential that could not be stored: no other record of it would end it. @param stored its lease, where there is one */
  async #discard(note: Lease, made: MadeSecret, stored: Lease | undefined): Promise<void> {
    const { backendOf, care, clock, logger } = this.#options
    // The next caller gets another credential. If this one cannot be ended now, the care of leases ends it later.
    if (stored !== undefined)
      await care.abandon(stored, clock.now()).catch((problem: unknown) => {
        logger.warn({ err: problem, lease: note.id }, 'a lease that no caller got was not abandoned')
      })
    await backendOf(note.backend)
      ?.end(made.lease, { tenant: note.tenant, downstream: note.downstream, open: () => Promise.resolve(made.value) })
      .catch((problem: unknown) => {
        logger.warn(
          { err: problem, backend: note.backend },
          'a credential that could not be stored was not ended; it ends with its lease',
        )
      })
  }
}

export const stillBeingMade = (backend: string): Error =>
  refuse('secret_backend_unavailable', {
    backend,
    problem: 'the credential is still being made, and is kept for the next request once it is there',
  })
