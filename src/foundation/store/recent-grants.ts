import { DeputyError } from '#errors'
import type { Grant, GrantFilter, GrantStore } from './records/grants.ts'

/** For how long a grant that was written is remembered (ms): longer than a fail-over of a database takes. */
const MEMORY_MS = 120_000
/** Grants that are remembered at most. */
const MAX_GRANTS = 20_000

/** What is known of a store that is another one than before. */
export interface StoreChange {
  /** ms since the epoch. */
  readonly now: number
  /** Whether the store has surely lost commits. A restart and a fail-over to a synchronous standby lose none. */
  readonly hasLost: boolean
  /** No row of before has a later time (ms since the epoch): what is younger was written to the store as it is now. */
  readonly since: number
}

export interface RecentGrants extends GrantStore {
  /**
   * Writes what was written lately and the store has lost: the refresh token in it is the one that the provider knows.
   * Of a store that has
   * perhaps lost nothing, what is there may be younger: only what is missing or older than this is written.
   * @param readVoid reads from the store which grants are revoked; another node may have removed what is missing
   * @returns the ids of the grants that were written
   */
  writeAgain(readVoid: () => Promise<(grant: Grant) => boolean>, change: StoreChange): Promise<string[]>
}

const matches = (grant: Grant, filter: GrantFilter): boolean =>
  (['tenant', 'user', 'server', 'downstream', 'provider', 'id'] as const).every(
    (field) => filter[field] === undefined || filter[field] === grant[field],
  )

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

/** The grants of a store, and in memory the last of them that this process has written, sealed as they are in the store. */
export const rememberGrants = (grants: GrantStore, monotonic: () => number): RecentGrants => {
  const recent = new Map<string, { readonly grant: Grant; readonly at: number }>()

  const remember = (grant: Grant): Grant => {
    recent.delete(grant.id)
    recent.set(grant.id, { grant, at: monotonic() })
    for (const [id, { at }] of recent) {
      if (monotonic() - at < MEMORY_MS && recent.size <= MAX_GRANTS) break
      recent.delete(id)
    }
    return grant
  }

  /**
   * What is missing. Another grant of the same owner is younger than what was lost, or is what the user sees: it stays.
   */
  const putAgain = async (mine: Grant): Promise<boolean> => {
    if ((await grants.find(mine)) !== undefined) return false
    remember(await grants.put(mine))
    return true
  }

  /** What is there. @returns whether it was written */
  const updateAgain = async (mine: Grant, stored: Grant, { now, hasLost, since }: StoreChange): Promise<boolean> => {
    if (sameBytes(stored.sealed, mine.sealed)) return false
    // Another node has written it after this one and before the store changed, or has written it again by now.
    if (stored.updatedAt > mine.updatedAt && stored.updatedAt < since) return false
    const isBehind = stored.version < mine.version
    const isClaimed = stored.refreshing !== undefined && stored.refreshing.until > now
    // In the new history it was written later: if that went well, it has a younger token; if not, it was tried with an older one.
    if (!isBehind && (!hasLost || stored.status === 'active' || isClaimed)) return false
    remember(
      await grants.update({
        ...mine,
        ...(isBehind ? {} : { status: 'uncertain' as const }),
        refreshing: undefined,
        version: stored.version,
      }),
    )
    return true
  }

  return {
    ...grants,
    put: async (grant) => remember(await grants.put(grant)),
    update: async (grant) => remember(await grants.update(grant)),
    async remove(filter) {
      for (const [id, { grant }] of recent) if (matches(grant, filter)) recent.delete(id)
      return grants.remove(filter)
    },
    async writeAgain(readVoid, change) {
      const written: string[] = []
      const attempt = async ({ id }: Grant, write: () => Promise<boolean>): Promise<void> => {
        try {
          if (await write()) written.push(id)
        } catch (error) {
          // Another node has written it meanwhile: that is the younger one.
          if (!(error instanceof DeputyError && error.code === 'conflict')) throw error
        }
      }
      const missing: Grant[] = []
      for (const { grant } of recent.values()) {
        const stored = await grants.get(grant.id)
        if (stored === undefined) missing.push(grant)
        else await attempt(grant, () => updateAgain(grant, stored, change))
      }
      // Read after the looks: a grant that a revocation had removed by then is known to be revoked now.
      const isVoid = missing.length === 0 ? undefined : await readVoid()
      for (const grant of missing) if (isVoid?.(grant) === false) await attempt(grant, () => putAgain(grant))
      return written
    },
  }
}
