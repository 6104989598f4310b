import { setTimeout as sleep } from 'node:timers/promises'
import { DeputyError } from '#errors'
import type { Grant, GrantStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { Gone } from './gone.ts'

/** The first pause between two tries of a write, and the longest (ms). */
const [FIRST_PAUSE_MS, MAX_PAUSE_MS] = [50, 1000]
/** Waiting writes at most. A grant beyond them stays `uncertain` in the store, as it was written before the refresh. */
const MAX_WAITING = 10_000
/** Grants named in one log line at most. */
const MAX_LOGGED = 100

/** Answers of providers that the store did not take, sealed, until it does. */
export interface PendingWrites {
  /** Writes it as soon as the store takes it. @param grant as it was read, with the answer sealed in it */
  add(grant: Grant): void
  /** Resolves when no write of this grant waits. @throws DeputyError `store_unavailable` where the store still does not take it */
  settle(id: string): Promise<void>
  /** Tries once more to write each waiting grant, and logs those that are lost with this process. */
  close(): Promise<void>
}

/**
 * The provider has rotated the refresh token while the store was unavailable, so only this process has the new one. It is written
 * when the store is back, fenced by the grant's version: never over a younger token of another node, and never for a deleted grant.
 */
export const createPendingWrites = (deps: {
  readonly grants: GrantStore
  /** ms since the epoch. */
  readonly now: () => number
  /** The grant has no row any more. */
  readonly settleGone: (grant: Grant) => Promise<Gone>
  readonly logger: Logger
}): PendingWrites => {
  const waiting = new Map<string, Grant>()
  const writing = new Map<string, Promise<boolean>>()
  let closed = false

  /** @returns whether it is done with; false: it has to wait for another node's claim, or look again */
  const write = async (grant: Grant): Promise<boolean> => {
    try {
      await deps.grants.update(grant)
      return true
    } catch (error) {
      if (!(error instanceof DeputyError && error.code === 'conflict')) throw error
    }
    const stored = await deps.grants.get(grant.id)
    if (stored === undefined) return (await deps.settleGone(grant)).kind !== 'back'
    // A fail-over has lost the claim as well: the stored grant is older than the refreshed one, even where its status is active.
    const isBehind = stored.version < grant.version
    // The write had landed, and its answer was lost; or another node has a younger token.
    if (Buffer.compare(stored.sealed, grant.sealed) === 0 || (stored.status === 'active' && !isBehind)) return true
    if (stored.refreshing !== undefined && stored.refreshing.until > deps.now()) return false
    // Another node has tried the older token, and has none: this one may still be good.
    await deps.grants.update({ ...grant, status: isBehind ? grant.status : 'uncertain', version: stored.version })
    return true
  }

  const tryNow = (id: string): Promise<boolean> => {
    const grant = waiting.get(id)
    if (grant === undefined) return Promise.resolve(true)
    let work = writing.get(id)
    if (work === undefined) {
      work = write(grant)
        .then((isDone) => {
          if (isDone && waiting.get(id) === grant) waiting.delete(id)
          return isDone
        })
        .finally(() => {
          writing.delete(id)
        })
      writing.set(id, work)
    }
    return work
  }

  const keepTrying = async (id: string): Promise<void> => {
    for (let pause = FIRST_PAUSE_MS; waiting.has(id) && !closed; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
      await sleep(pause, undefined, { ref: false })
      await tryNow(id).catch((error: unknown) => {
        if (error instanceof DeputyError && ['store_unavailable', 'conflict'].includes(error.code)) return
        waiting.delete(id)
        deps.logger.error({ err: error, grant: id }, 'the outcome of a refresh was not written')
      })
    }
  }

  return {
    add(grant) {
      if (waiting.size >= MAX_WAITING && !waiting.has(grant.id)) return
      const isNew = !waiting.has(grant.id)
      waiting.set(grant.id, grant)
      if (isNew) void keepTrying(grant.id)
    },
    async settle(id) {
      if (waiting.has(id)) await tryNow(id)
    },
    async close() {
      closed = true
      await Promise.allSettled([...waiting.keys()].map(tryNow))
      if (waiting.size > 0)
        deps.logger.error(
          { grants: [...waiting.keys()].slice(0, MAX_LOGGED) },
          'the store did not take the last answers of providers: their users may have to connect again',
        )
    },
  }
}
