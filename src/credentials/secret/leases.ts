import { setTimeout as sleep } from 'node:timers/promises'
import { refuse } from '#errors'
import { within } from '#foundation/async'
import { randomText, type Secret } from '#foundation/crypto'
import { type Lease, type LeaseFilter, type LeaseOwner, leaseRecordName } from '#foundation/store'
import type { LeaseSource, MadeSecret } from './backend.ts'
import {
  CLAIM_MS,
  createLeaseCare,
  givenFor,
  isConflict,
  isOver,
  LEAST_USE_MS,
  marginOf,
  type LeaseCareOptions,
} from './lease-care.ts'

/** How long a caller waits for a credential that is being made, by its own request or another's (ms), and how often it looks. */
const PATIENCE_MS = 12_000
const LOOK_MS = 50
/** A note that a credential is being made is renewed so often (ms), so that it outlives no process by more than its time. */
const STILL_MAKING_MS = CLAIM_MS / 3
/** What is handed out lives for this part of a lease's duration: a caller that goes on using it comes back before it is renewed. */
const HANDED = 1 / 3
const TICK_MS = 1000
const AT_ONCE = 16
/** At the end of the process credentials that are being made have so long (ms). */
const FAREWELL_MS = 2000
const BATCH = 1000

/** What became of a lease that was ended: at its backend now, or when that can be reached; or never, because nobody can open it any more. */
export interface LeaseReceipt extends LeaseOwner {
  readonly lease: string
  readonly upstream: 'done' | 'queued' | 'failed'
}

export interface LeasedSecret {
  readonly value: Secret
  readonly lease: string
  readonly expiresAt: number
}

export interface LeasesOptions extends LeaseCareOptions {
  /** Whether a revocation covers it. */
  readonly isVoid: (lease: Lease) => boolean
  /** Whether files still say that it may be. */
  readonly isWanted: (lease: Lease) => boolean
  /** Called with leases that their backend has ended: what was kept of them elsewhere is dead. */
  readonly lost?: (leases: ReadonlySet<string>) => void
  /** How long a caller waits (ms); default 12 s. */
  readonly patience?: number
}

/**
 * Credentials that are made for one owner, each under a lease. The note that one is being made is durable before any backend
 * is asked, so one owner has one lease of what is asked, whichever node asks. It is renewed while it is used, ended when what it rests
 * on ends, and forgotten when the backend has ended it.
 */
export const createLeases = (options: LeasesOptions) => {
  const { store, clock, logger, patience = PATIENCE_MS } = options
  const newId = (): string => randomText(options.random, 12)
  const { record, abandon, end, attend, renewAt, canGoOn } = createLeaseCare(options)

  const shown = async (lease: Lease): Promise<LeasedSecret> => {
    const now = clock.now()
    await store.touch(lease.id, now)
    return {
      value: await options.envelope.open(leaseRecordName(lease), lease.sealed!),
      lease: lease.id,
      expiresAt: Math.min(lease.expiresAt, now + Math.max(givenFor(lease) * HANDED, marginOf(lease), LEAST_USE_MS)),
    }
  }

  /** What was made and cannot be kept is ended: no other record of it would end it. */
  const endUnkept = async (note: Lease, made: MadeSecret, kept: Lease | undefined): Promise<void> => {
    // The next caller gets another, and what cannot be ended now is ended later.
    if (kept !== undefined)
      await abandon(kept, clock.now()).catch((problem: unknown) => {
        logger.warn({ err: problem, lease: note.id }, 'a lease that no caller got could not be given up')
      })
    await options
      .backendOf(note.backend)
      ?.end(made.lease, { tenant: note.tenant, downstream: note.downstream, open: () => Promise.resolve(made.value) })
      .catch((problem: unknown) => {
        logger.warn(
          { err: problem, backend: note.backend },
          'a credential that could not be kept was not ended; its lease will',
        )
      })
  }

  /** The note stays ours while the backend is at work, however long that takes. */
  const holding = (note: Lease): { readonly now: () => Promise<Lease>; release(): void } => {
    let current = Promise.resolve(note)
    const timer = setInterval(() => {
      current = current.then((lease) => {
        const now = clock.now()
        return store.update({ ...lease, expiresAt: now + CLAIM_MS, nextAt: now + CLAIM_MS * 2 })
      })
      current.catch(() => undefined)
    }, STILL_MAKING_MS)
    timer.unref()
    return {
      now: () => current,
      release() {
        clearInterval(timer)
      },
    }
  }

  /** The note is ours until `expiresAt`. */
  const keep = async (note: Lease, make: () => Promise<MadeSecret>): Promise<LeasedSecret> => {
    let made: MadeSecret
    const held = holding(note)
    try {
      made = await make()
    } catch (error) {
      held.release()
      await store.remove(note.id).catch(() => undefined)
      throw error
    }
    held.release()
    let kept: Lease | undefined
    try {
      const ours = await held.now()
      const now = clock.now()
      const expiresAt = Math.min(now + made.duration, made.parent?.endsAt ?? Infinity)
      kept = await store.update({
        ...ours,
        state: 'active',
        external: made.lease,
        sealed: await options.envelope.seal(leaseRecordName(note), made.value),
        duration: made.duration,
        renewedAt: now,
        expiresAt,
        nextAt: made.renewable ? renewAt(now, expiresAt - now) : expiresAt,
        parent: made.parent?.name ?? null,
      })
      await record(kept, 'lease.begin', { expires_at: kept.expiresAt })
      return await shown(kept)
    } catch (error) {
      await endUnkept(note, made, kept)
      throw error
    }
  }

  const making = new Set<Promise<unknown>>()
  /** The making goes on when the caller has given up: what comes is kept for the next one, or ended. */
  const keepWithin = (
    ms: number,
    note: Lease,
    make: () => Promise<MadeSecret>,
    late: () => Error,
  ): Promise<LeasedSecret> => {
    const work = keep(note, make)
    const done: Promise<unknown> = work
      .catch((error: unknown) => {
        logger.debug({ err: error, lease: note.id }, 'a credential could not be made')
      })
      .finally(() => making.delete(done))
    making.add(done)
    return within(ms, work, late)
  }

  /** Whether what it ends with is not known. */
  const isOrphan = (lease: Lease, source: LeaseSource | undefined): boolean =>
    source?.hasParents === true && lease.parent === null

  /** Runs work on many, a few at a time. */
  const each = async <T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> => {
    const waiting = [...items]
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(item)
      }),
    )
  }

  let timer: NodeJS.Timeout | undefined
  let ticking: Promise<void> | undefined
  const tick = async (): Promise<void> => {
    await each(await store.due(clock.now(), BATCH), attend)
  }

  return {
    /** @param make called where there is none. @throws DeputyError of the category secret, and what `make` throws */
    async obtain(
      owner: LeaseOwner,
      { backend, role }: { backend: string; role: string },
      make: () => Promise<MadeSecret>,
    ): Promise<LeasedSecret> {
      const late = (): Error =>
        refuse('secret_backend_unavailable', {
          backend,
          problem: 'the credential is still being made, and is kept for the next request once it is there',
        })
      for (const until = performance.now() + patience; performance.now() < until;) {
        const now = clock.now()
        const found = await store.find({ ...owner, backend, role })
        if (found === undefined) {
          const note: Lease = {
            ...owner,
            backend,
            role,
            id: newId(),
            state: 'making',
            external: null,
            sealed: null,
            duration: 0,
            createdAt: now,
            renewedAt: now,
            usedAt: now,
            expiresAt: now + CLAIM_MS,
            nextAt: now + CLAIM_MS * 2,
            attempts: 0,
            problem: null,
            revision: 0,
            parent: null,
          }
          if (await store.begin(note)) return await keepWithin(until - performance.now(), note, make, late)
        } else if (found.state === 'making') {
          if (found.expiresAt > now) await sleep(LOOK_MS)
          else {
            const taken = await store
              .update({ ...found, createdAt: now, expiresAt: now + CLAIM_MS, nextAt: now + CLAIM_MS * 2 })
              .catch((error: unknown) => {
                if (isConflict(error)) return undefined
                throw error
              })
            if (taken !== undefined) return await keepWithin(until - performance.now(), taken, make, late)
          }
        } else if (options.isVoid(found)) await abandon(found, now)
        // Of an earlier version: when it ends is not known.
        else if (isOrphan(found, options.backendOf(backend))) await abandon(found, found.expiresAt)
        else if (found.expiresAt - now <= marginOf(found)) {
          if (!(await canGoOn(found))) await abandon(found, found.expiresAt)
        } else return await shown(found)
      }
      throw late()
    },

    /** Ends what any of the filters covers. When it resolves nobody gets it any more. @param keyEnds the tenant's key is about to be destroyed: what ends by its credential is ended now or never */
    async end(filters: readonly LeaseFilter[], keyEnds = false): Promise<LeaseReceipt[]> {
      const receipts: LeaseReceipt[] = []
      const covered = (await Promise.all(filters.map((filter) => store.list(filter)))).flat()
      await each(covered, async (lease) => {
        // What waits for its end already cannot wait for longer than the key.
        const endsWithKey = keyEnds && options.backendOf(lease.backend)?.endsByCredential === true
        const given = endsWithKey && isOver(lease.state) ? lease : await abandon(lease, clock.now() + CLAIM_MS)
        if (given === undefined) return
        const { tenant, user, server, downstream } = given
        const upstream = await end(given)
        const isLost = endsWithKey && upstream === 'queued'
        if (isLost) await store.remove(given.id)
        receipts.push({ lease: given.id, tenant, user, server, downstream, upstream: isLost ? 'failed' : upstream })
      })
      return receipts
    },
    /** What they ended with has ended, so that they are dead: no caller gets them any more. @param parent see `Lease.parent` */
    async lose(parent: string): Promise<void> {
      const lost = (await store.list({ parent })).filter(({ state }) => !isOver(state))
      await each(lost, (lease) => abandon(lease, clock.now()))
      options.lost?.(new Set(lost.map(({ id }) => id)))
      if (lost.length > 0)
        logger.warn(
          { parent, leases: lost.length },
          'a token was ended at its backend, and the leases under it with it',
        )
    },
    /** It is in use, though nobody has asked for it again. @returns whether it goes on */
    async touch(lease: string): Promise<boolean> {
      await store.touch(lease, clock.now())
      return (await store.list({ id: lease, state: 'active' })).length > 0
    },
    list: (filter: LeaseFilter): Promise<Lease[]> => store.list(filter),

    /** Gives up what a revocation covers, and what files do not speak of any more. @returns how many */
    async sweep(): Promise<number> {
      const now = clock.now()
      const orphans = (await store.list({})).filter(
        (lease) => lease.state === 'active' && (options.isVoid(lease) || !options.isWanted(lease)),
      )
      for (const lease of orphans) await abandon(lease, now)
      return orphans.length
    },
    /** Begins to look after leases. */
    start(): void {
      timer = setInterval(() => {
        ticking ??= tick()
          .catch((error: unknown) => {
            options.logger.warn({ err: error }, 'leases were not looked after; they are again in a second')
          })
          .finally(() => {
            ticking = undefined
          })
      }, TICK_MS)
      timer.unref()
    },
    /** For tests: what the clock would have done. */
    tick,
    async close(): Promise<void> {
      clearInterval(timer)
      await ticking
      // What is being made ends with its own lease, if it comes too late to be kept.
      await within(FAREWELL_MS, Promise.all(making), () => new Error('late')).catch(() => {
        logger.warn(
          { making: making.size },
          'credentials were still being made at the end; they end with their own leases',
        )
      })
    },
  }
}
export type Leases = ReturnType<typeof createLeases>
