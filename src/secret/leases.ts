import { setTimeout as sleep } from 'node:timers/promises'
import type { AuditEvent } from '../audit/events.ts'
import type { AuditLog } from '../audit/record.ts'
import type { Clock, Random } from '../clock.ts'
import type { Envelope } from '../crypto/envelope.ts'
import type { Secret } from '../crypto/secret.ts'
import { DeputyError, refuse } from '../errors.ts'
import type { Logger } from '../observe/logger.ts'
import {
  leaseRecordName,
  type Lease,
  type LeaseFilter,
  type LeaseOwner,
  type LeaseStore,
} from '../store/records/leases.ts'
import { present, type HeldLease, type LeaseSource, type MadeSecret } from './backend.ts'

/** How long one that asks for a credential has for it, before another may try (ms); how long others wait, and how often they look. */
const MAKING = 10_000
const PATIENCE = 12_000
const LOOK = 50
/** A lease that is nearer to its end is not handed out any more (ms), or at a tenth of its duration where that is less. */
const MARGIN = 30_000
/** Renewed at a random moment between these parts of its duration, so that leases that began together do not stay together. */
const [RENEW_FROM, RENEW_TO] = [0.5, 0.75]
/** What is handed out lives for this part of a lease's duration: who goes on using it comes back before it is renewed. */
const HANDED = 1 / 3
const TICK = 1000
const AT_ONCE = 16
const BATCH = 1000
const FIRST_PAUSE = 2000
const LONGEST_PAUSE = 600_000

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

export interface LeasesOptions {
  readonly store: LeaseStore
  readonly envelope: Envelope
  readonly backendOf: (id: string) => LeaseSource | undefined
  /** Whether a revocation covers it. */
  readonly isVoid: (lease: Lease) => boolean
  /** Whether files still say that it may be. */
  readonly isWanted: (lease: Lease) => boolean
  readonly audit: AuditLog
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

const isConflict = (error: unknown): boolean => error instanceof DeputyError && error.code === 'conflict'
const isOver = (state: Lease['state']): boolean => state === 'ending'

/**
 * Credentials that are made for one owner, each under a lease. The note that one is being made is durable before anybody
 * is asked, so one owner has one lease of what is asked, whichever node asks. It is renewed while it is used, ended when what it rests
 * on ends, and forgotten when the backend has surely ended it.
 */
export const createLeases = (options: LeasesOptions) => {
  const { store, clock } = options
  const newId = (): string => Buffer.from(options.random.bytes(12)).toString('base64url')
  const backendOf = (id: string): LeaseSource => present(options.backendOf(id), id)
  const renewAt = (now: number, duration: number): number => {
    const share = Buffer.from(options.random.bytes(4)).readUInt32BE() / 2 ** 32
    return now + duration * (RENEW_FROM + (RENEW_TO - RENEW_FROM) * share)
  }
  const record = (lease: Lease, event: AuditEvent, detail: object): Promise<void> =>
    options.audit.append({
      id: lease.id,
      event,
      outcome: 'done',
      tenant: lease.tenant,
      server: lease.server,
      downstream: lease.downstream,
      ...(lease.user === null ? {} : { user: lease.user }),
      detail: { lease: lease.id, backend: lease.backend, role: lease.role, ...detail },
    })
  const heldOf = (lease: Lease): HeldLease => ({
    tenant: lease.tenant,
    downstream: lease.downstream,
    open: () => options.envelope.open(leaseRecordName(lease), lease.sealed!),
  })
  const margin = ({ duration }: Lease): number => Math.min(MARGIN, duration / 10)

  const shown = async (lease: Lease): Promise<LeasedSecret> => {
    const now = clock.now()
    await store.touch(lease.id, now)
    return {
      value: await options.envelope.open(leaseRecordName(lease), lease.sealed!),
      lease: lease.id,
      expiresAt: Math.min(lease.expiresAt, now + Math.max(lease.duration * HANDED, margin(lease))),
    }
  }

  /** The note is ours until `expiresAt`. */
  const keep = async (note: Lease, make: () => Promise<MadeSecret>): Promise<LeasedSecret> => {
    let made: MadeSecret
    try {
      made = await make()
    } catch (error) {
      await store.remove(note.id).catch(() => undefined)
      throw error
    }
    let kept: Lease | undefined
    try {
      const now = clock.now()
      kept = await store.update({
        ...note,
        state: 'active',
        external: made.lease,
        sealed: await options.envelope.seal(leaseRecordName(note), made.value),
        duration: made.duration,
        renewedAt: now,
        expiresAt: now + made.duration,
        nextAt: made.renewable ? renewAt(now, made.duration) : now + made.duration,
      })
      await record(kept, 'lease.begin', { expires_at: kept.expiresAt })
      return await shown(kept)
    } catch (error) {
      // Who asks next gets another, and what cannot be ended now is ended later.
      if (kept !== undefined)
        await giveUp(kept, clock.now()).catch((problem: unknown) => {
          options.logger.warn({ err: problem, lease: note.id }, 'a lease that nobody got could not be given up')
        })
      // One that was not kept nobody else would ever end.
      await options
        .backendOf(note.backend)
        ?.end(made.lease, { tenant: note.tenant, downstream: note.downstream, open: () => Promise.resolve(made.value) })
        .catch((problem: unknown) => {
          options.logger.warn(
            { err: problem, backend: note.backend },
            'a credential that could not be kept was not ended; its lease will',
          )
        })
      throw error
    }
  }

  /** From now on nobody gets it; `at`: when its backend is told (ms since the epoch). */
  const giveUp = async (lease: Lease, at: number): Promise<Lease | undefined> => {
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

  /** Tells the backend. What it was never told of has no name there. */
  const end = async (lease: Lease): Promise<'done' | 'queued'> => {
    try {
      if (lease.external !== null && lease.expiresAt > clock.now())
        await backendOf(lease.backend).end(lease.external, heldOf(lease))
      await record(lease, 'lease.end', { attempts: lease.attempts + 1 })
      await store.remove(lease.id)
      return 'done'
    } catch (error) {
      const attempts = lease.attempts + 1
      options.logger.warn(
        { lease: lease.id, backend: lease.backend, problem: (error as Error).message },
        'a lease could not be ended at its backend; it is tried again',
      )
      const nextAt = clock.now() + Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempts)
      await store
        .update({ ...lease, attempts, nextAt, problem: (error as Error).message.slice(0, 200) })
        .catch(() => undefined)
      return 'queued'
    }
  }

  const renew = async (lease: Lease): Promise<void> => {
    const now = clock.now()
    if (lease.external === null || lease.expiresAt <= now) {
      await store.remove(lease.id)
      return
    }
    // Not used since: it may end.
    if (lease.usedAt < lease.renewedAt) {
      await store.update({ ...lease, nextAt: lease.expiresAt })
      return
    }
    const claimed = await store.update({ ...lease, nextAt: Math.min(lease.expiresAt, now + MAKING) })
    try {
      const duration = await backendOf(lease.backend).renew(lease.external, lease.duration)
      const renewedAt = clock.now()
      if (duration === undefined) {
        await store.remove(lease.id)
        return
      }
      // Given for less than it was: its longest life is near, and there is nothing more to be had.
      const nextAt = duration < lease.duration * RENEW_FROM ? renewedAt + duration : renewAt(renewedAt, duration)
      await store.update({ ...claimed, renewedAt, expiresAt: renewedAt + duration, nextAt, attempts: 0, problem: null })
    } catch (error) {
      if (isConflict(error)) return
      const attempts = lease.attempts + 1
      await store.update({
        ...claimed,
        attempts,
        problem: (error as Error).message.slice(0, 200),
        nextAt: Math.min(lease.expiresAt, now + Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempts)),
      })
    }
  }

  const attend = async (lease: Lease): Promise<void> => {
    try {
      if (isOver(lease.state)) {
        // Others leave it alone for a while.
        await end(await store.update({ ...lease, nextAt: clock.now() + MAKING }))
      } else if (lease.state === 'making') await store.remove(lease.id)
      else await renew(lease)
    } catch (error) {
      if (!isConflict(error))
        options.logger.warn({ err: error, lease: lease.id }, 'a lease was not looked after; it is again in a second')
    }
  }

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
      for (const until = performance.now() + PATIENCE; performance.now() < until;) {
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
            expiresAt: now + MAKING,
            nextAt: now + MAKING * 2,
            attempts: 0,
            problem: null,
            revision: 0,
          }
          if (await store.begin(note)) return await keep(note, make)
        } else if (found.state === 'making') {
          if (found.expiresAt > now) await sleep(LOOK)
          else {
            const taken = await store
              .update({ ...found, createdAt: now, expiresAt: now + MAKING, nextAt: now + MAKING * 2 })
              .catch((error: unknown) => {
                if (isConflict(error)) return undefined
                throw error
              })
            if (taken !== undefined) return await keep(taken, make)
          }
        } else if (options.isVoid(found)) await giveUp(found, now)
        else if (found.expiresAt - now <= margin(found)) await giveUp(found, found.expiresAt)
        else return await shown(found)
      }
      throw refuse('secret_backend_unavailable', {
        backend,
        problem: 'another request is making this credential, and did not get it in time',
      })
    },

    /** Ends what any of the filters covers. When it resolves nobody gets it any more. @param keyEnds the tenant's key is about to be destroyed: what ends by its credential is ended now or never */
    async end(filters: readonly LeaseFilter[], keyEnds = false): Promise<LeaseReceipt[]> {
      const receipts: LeaseReceipt[] = []
      const covered = (await Promise.all(filters.map((filter) => store.list(filter)))).flat()
      await each(covered, async (lease) => {
        // What waits for its end already cannot wait for longer than the key.
        const endsWithKey = keyEnds && options.backendOf(lease.backend)?.endsByCredential === true
        const given = endsWithKey && isOver(lease.state) ? lease : await giveUp(lease, clock.now() + MAKING)
        if (given === undefined) return
        const { tenant, user, server, downstream } = given
        const upstream = await end(given)
        const isLost = endsWithKey && upstream === 'queued'
        if (isLost) await store.remove(given.id)
        receipts.push({ lease: given.id, tenant, user, server, downstream, upstream: isLost ? 'failed' : upstream })
      })
      return receipts
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
      for (const lease of orphans) await giveUp(lease, now)
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
      }, TICK)
      timer.unref()
    },
    /** For tests: what the clock would have done. */
    tick,
    async close(): Promise<void> {
      clearInterval(timer)
      await ticking
    },
  }
}
export type Leases = ReturnType<typeof createLeases>
