import type { Clock } from '#clock'
import type { CurrentSnapshot, Snapshot } from '#config'
import { asDeputyError, refuse } from '#errors'
import type { Revoker } from '#flows/revocation'
import type { Membership } from '#foundation/cluster'
import type { Secret } from '#foundation/crypto'
import { confirmationOf, type MintedClaims, type ReadMintedToken } from '#identity/subject'
import type { AttestedWorkload, CallerEvidence, CheckResourceProof } from '#identity/workload'
import type { MintedLife } from './minted-life.ts'
import type { RequestOrigin } from './request.ts'
import { answerIntrospection, INACTIVE, type Introspection } from './introspection.ts'
import { assertPossessed, inactiveBecause, type Presentation } from './possession.ts'
import type { PresentedToken, SubjectState } from './subject-state.ts'
import type { WithAuditDependencies } from './with-audit.ts'

export interface TokenState {
  /**
   * RFC 7662: of a token that Deputy minted, and of a user's token that was sent to the calling server. Only who the
   * token is for, or who got it, learns anything; everybody else learns `{"active":false}` (threat 17).
   */
  introspect(origin: RequestOrigin, token: Secret, presented?: Presentation): Promise<Introspection>
  /** RFC 7009: a workload ends a token that it got. Unknown tokens are no error. @throws DeputyError `workload_unverified` when it is another's */
  revoke(origin: RequestOrigin, token: Secret): Promise<void>
}

/** The state of a live token of Deputy's, if its sender has the key that it is bound to. @throws DeputyError what may be otherwise in a moment */
const whenPossessed = async (
  { checkResourceProof }: { readonly checkResourceProof: CheckResourceProof },
  { claims, token, presented }: Pick<PresentedToken, 'token' | 'presented'> & { readonly claims: MintedClaims },
): Promise<Introspection> => {
  try {
    const { confirmation } = confirmationOf(claims)
    await assertPossessed(checkResourceProof, presented, token, confirmation)
    return {
      active: true,
      ...claims,
      aud: claims.aud.length === 1 ? claims.aud[0] : claims.aud,
      token_type: confirmation !== undefined && 'jkt' in confirmation ? 'DPoP' : 'Bearer',
    }
  } catch (thrown) {
    const error = asDeputyError(thrown)
    if (error.kind.retryable || error.code === 'internal') throw error
    return inactiveBecause(error)
  }
}

/** What can be asked of a token, and done to one that Deputy minted. */
export const createTokenState = (
  deps: WithAuditDependencies & {
    readonly snapshot: CurrentSnapshot
    readonly attest: (evidence: CallerEvidence, snapshot: Snapshot) => Promise<AttestedWorkload>
    readonly read: ReadMintedToken
    readonly isLive: MintedLife
    readonly checkResourceProof: CheckResourceProof
    readonly subjectState: SubjectState
    readonly membership: Pick<Membership, 'assertHeld'>
    readonly revoker: Revoker
    readonly clock: Clock
  },
): TokenState => {
  return {
    async introspect(origin, token, presented) {
      const { server } = await deps.attest(origin.evidence, deps.snapshot())
      const claims = deps.read(token)
      if (claims === undefined) return deps.subjectState.introspect({ origin, server, token, presented })
      const concerns = claims.client_id === server.server || claims.aud.includes(server.resource)
      const answer =
        concerns && deps.isLive(claims) ? await whenPossessed(deps, { claims, token, presented }) : INACTIVE
      return answerIntrospection(deps, origin, answer, {
        record: {
          server: server.server,
          ...(concerns ? { tenant: claims.tenant, ...(claims.agent === true ? {} : { user: claims.sub }) } : {}),
          detail: { active: answer.active, token_id: concerns ? claims.jti : undefined },
        },
        assertHeld: () => {
          deps.membership.assertHeld()
        },
        counts: () => deps.isLive(claims),
      })
    },

    async revoke(origin, token) {
      const { server } = await deps.attest(origin.evidence, deps.snapshot())
      const claims = deps.read(token)
      if (claims === undefined) return
      if (claims.client_id !== server.server)
        throw refuse('workload_unverified', {
          server: server.server,
          problem: 'the token was issued to another server',
        })
      await deps.revoker.revoke({
        scope: { kind: 'token', token: claims.jti },
        by: `server ${server.server}`,
        correlationId: origin.correlationId,
        tokenExpiresAt: claims.exp * 1000,
      })
    },
  }
}
