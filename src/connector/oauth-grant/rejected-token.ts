import type { Clock } from '../../clock.ts'
import type { Envelope } from '../../crypto/envelope.ts'
import { DeputyError, refuse } from '../../errors.ts'
import type { Grant, GrantStore } from '../../store/records/grants.ts'
import { isAbout, judgeRejection, REJECTION_PAUSE_MS, type RejectedCredential } from '../rejection.ts'
import { sealTokens, type GrantTokens } from './grant.ts'

const PROBLEM = 'the service refuses its access tokens, a fresh one included (401)'

/**
 * What a grant does about access tokens that its service refuses. The first report forces a refresh. When the fresh token is
 * refused as well, the grant rests: its user is asked to connect again, and after the rest it is tried once more, because a
 * service that refuses everybody for a while must not cost all of its users their grants. Both moments are kept with the
 * tokens, so they hold on every node and over a restart.
 */
export const createRejectedTokens = (deps: {
  readonly grants: GrantStore
  readonly envelope: Envelope
  readonly clock: Clock
}) => {
  const ended = (grant: Grant): DeputyError =>
    refuse('reconnect_required', { downstream: grant.downstream, problem: PROBLEM })

  const rest = async (grant: Grant, tokens: GrantTokens): Promise<void> => {
    const now = deps.clock.now()
    try {
      await deps.grants.update({
        ...grant,
        problem: PROBLEM,
        updatedAt: now,
        sealed: await sealTokens(deps.envelope, grant, { ...tokens, restingSince: now }),
      })
    } catch (error) {
      if (error instanceof DeputyError && error.code === 'conflict')
        throw refuse('refresh_in_progress', { downstream: grant.downstream, seconds: 2 }, error)
      throw error
    }
  }

  return {
    /**
     * Whether the token has to be refreshed although it looks good. A report counts only for the token that the grant has
     * now, or for a narrowed one that was just handed out for the same request.
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
      const judgement = judgeRejection(tokens.forcedAt, now)
      if (judgement === 'keep') return false
      if (judgement === 'renew' && tokens.refreshToken !== undefined) return true
      await rest(grant, tokens)
      throw ended(grant)
    },
  }
}
