import type { Clock } from '#clock'
import { DeputyError, refuse } from '#errors'
import type { Envelope } from '#foundation/crypto'
import type { Grant, GrantStore } from '#foundation/store'
import { isAbout, judgeRejection, REJECTION_PAUSE_MS, type RejectedCredential } from '../rejection.ts'
import { openTokens, sealTokens, type GrantTokens } from './grant.ts'
import { isRefreshing } from './fresh-token.ts'
import type { InTurn } from './turns.ts'

const PROBLEM = 'the service refuses its access tokens, a fresh one included (401)'

/** When a refresh was forced that brought the access token that the grant has now. A narrowed one replaces another token. */
const renewedAt = ({ forcedAt, accessObtainedAt }: GrantTokens): number | undefined =>
  forcedAt !== undefined && accessObtainedAt >= forcedAt ? forcedAt : undefined

/**
 * What a grant does about access tokens that its service refuses. The first report forces a refresh. When the fresh token is
 * refused as well, the grant rests: its user is asked to connect again, and after the rest it is tried once more, because a
 * service that refuses every token for a while must not cost all of its users their grants. Both moments are stored with the
 * tokens, so they apply on every node and after a restart.
 */
export const createRejectedTokens = (deps: {
  readonly grants: GrantStore
  readonly envelope: Envelope
  readonly clock: Clock
  readonly inTurn: InTurn
}) => {
  const ended = (grant: Grant): DeputyError =>
    refuse('reconnect_required', { downstream: grant.downstream, problem: PROBLEM })
  const busy = (grant: Grant, cause?: unknown): DeputyError =>
    refuse('refresh_in_progress', { downstream: grant.downstream, seconds: 2 }, cause)

  /**
   * Writes that the grant rests, in its turn: a refresh that is in flight brings a rotated refresh token, and what it
   * writes must find the grant as it left it (promise 6).
   */
  const rest = (known: Grant, isStillRefused: (tokens: GrantTokens) => boolean): Promise<void> =>
    deps.inTurn(known.id, async () => {
      const now = deps.clock.now()
      const grant = await deps.grants.get(known.id)
      if (grant === undefined) throw ended(known)
      if (isRefreshing(grant, now)) throw busy(grant)
      const tokens = await openTokens(deps.envelope, grant)
      if (!isStillRefused(tokens)) throw busy(grant)
      try {
        await deps.grants.update({
          ...grant,
          problem: PROBLEM,
          updatedAt: now,
          sealed: await sealTokens(deps.envelope, grant, { ...tokens, restingSince: now }),
        })
      } catch (error) {
        if (error instanceof DeputyError && error.code === 'conflict') throw busy(grant, error)
        throw error
      }
    })

  return {
    /**
     * Whether the token has to be refreshed although it looks good. A report counts only for the token that the grant has
     * now, or for a narrowed one that was just handed out for the same request. Only a token that a report has brought
     * shows that a fresh one is refused as well: others of the grant are as old as the first that was refused.
     * @throws DeputyError `reconnect_required` when there is nothing else to be had, or the grant rests; `refresh_in_progress`
     */
    async mustRefresh(
      grant: Grant,
      tokens: GrantTokens,
      rejected: RejectedCredential | undefined,
      isNarrowed: boolean,
    ): Promise<boolean> {
      const now = deps.clock.now()
      if (tokens.restingSince !== undefined && Math.abs(now - tokens.restingSince) < REJECTION_PAUSE_MS)
        throw ended(grant)
      if (!(isNarrowed ? rejected?.handed === true : isAbout(rejected, tokens.accessToken))) return false
      const judgement = judgeRejection(isNarrowed ? tokens.forcedAt : renewedAt(tokens), now)
      // A narrowed token is refreshed for each request in any case.
      if (judgement === 'keep' || (isNarrowed && judgement === 'end' && rejected?.renewed !== true)) return false
      if (judgement === 'renew' && tokens.refreshToken !== undefined) return true
      await rest(grant, ({ accessToken }) => isNarrowed || isAbout(rejected, accessToken))
      throw ended(grant)
    },
  }
}
