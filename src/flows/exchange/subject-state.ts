import type { Server } from '#config'
import { asDeputyError, type DeputyError, refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import type { ReadMintedToken, SubjectVerifier, VerifiedSubject } from '#identity/subject'
import { assertValid, isValid, type CredentialDependencies, type ValidityDependencies } from '#identity/validity'
import type { CheckResourceProof } from '#identity/workload'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import type { MintedLife } from './minted-life.ts'
import type { RequestOrigin } from './request.ts'
import { answerIntrospection, type Introspection } from './introspection.ts'
import { assertPossessed, inactiveBecause, type Presentation } from './possession.ts'
import type { WithAuditDependencies } from './with-audit.ts'

/** A token that a server received, and how. */
export interface PresentedToken {
  readonly origin: RequestOrigin
  readonly server: Server
  readonly token: Secret
  readonly presented?: Presentation | undefined
  /** Whether the answer is recorded; default: always. What a token is used for can have a record of its own. */
  readonly isRecorded?: (isActive: boolean) => boolean
}

export interface SubjectState {
  /**
   * What a user's token says to the server for which it was issued, by the checks of the exchange. Why one does not
   * count is for the record alone (threat 17).
   * @param more what an active answer, and the record, say besides
   * @throws DeputyError what may be otherwise in a moment, such as `issuer_unreachable`
   */
  introspect(
    asked: PresentedToken,
    more?: (subject: VerifiedSubject) => { readonly answer: object; readonly record: object },
  ): Promise<Introspection>
}

/** The state of users' tokens that were sent to an MCP server, which is the protected resource of RFC 7662. */
export const createSubjectState = (
  deps: ValidityDependencies &
    WithAuditDependencies & {
      readonly subjects: Pick<SubjectVerifier, 'verify'>
      readonly readMinted: ReadMintedToken
      readonly isLive: MintedLife
      readonly checkResourceProof: CheckResourceProof
    },
): SubjectState => {
  const read = async ({
    server,
    token,
    presented,
  }: PresentedToken): Promise<
    { subject: VerifiedSubject; problem?: undefined } | { subject?: undefined; problem: DeputyError }
  > => {
    try {
      const subject = await deps.subjects.verify({ token, tokenType: ACCESS_TOKEN_TYPE, server })
      assertValid(dependenciesOn(server, subject), deps)
      const minted = deps.readMinted(token)
      if (minted !== undefined && !deps.isLive(minted))
        return { problem: refuse('subject_token_invalid', { problem: 'what it descends from no longer counts' }) }
      // Last: a proof is used up by it, which only the holder of a good token may do.
      await assertPossessed(deps.checkResourceProof, presented, token, subject.confirmation)
      return { subject }
    } catch (thrown) {
      const error = asDeputyError(thrown)
      if (error.kind.retryable) throw error
      return { problem: error }
    }
  }

  return {
    async introspect(asked, more = () => ({ answer: {}, record: {} })) {
      const { origin, server } = asked
      const { subject, problem } = await read(asked)
      const besides = subject === undefined ? undefined : more(subject)
      const answer: Introspection =
        subject === undefined ? inactiveBecause(problem) : { ...answerOf(server, subject), ...besides?.answer }
      return answerIntrospection(deps, origin, answer, {
        isRecorded: asked.isRecorded?.(answer.active) ?? true,
        record: {
          server: server.server,
          ...(subject === undefined
            ? {}
            : { tenant: subject.tenant.tenant, ...(subject.user === undefined ? {} : { user: subject.user }) }),
          detail: {
            active: answer.active,
            token_id: subject?.tokenId,
            agent: subject?.agent?.id,
            ...besides?.record,
            error:
              problem === undefined ? undefined : { code: problem.code, message: problem.message, next: problem.next },
          },
        },
        assertHeld: () => {
          deps.membership.assertHeld()
        },
        counts: () => subject !== undefined && isValid(dependenciesOn(server, subject), deps),
      })
    },
  }
}

/** What a user's token relies on, at the server that it was sent to. */
const dependenciesOn = (
  { server }: Server,
  { tenant: { tenant }, user, tokenId, ancestors, earliestIssue: since }: VerifiedSubject,
): CredentialDependencies => ({ tenant, user, server, downstreams: [], tokens: [tokenId, ...ancestors], since })

const answerOf = (
  server: Server,
  { user, agent, tenant: { tenant }, issuer, scopes = [], claims, issuedAt, expiresAt, confirmation }: VerifiedSubject,
) => ({
  active: true as const,
  iss: issuer,
  sub: agent?.id ?? user,
  ...(agent === undefined ? {} : { agent: true as const }),
  aud: server.resource,
  tenant,
  token_type: confirmation !== undefined && 'jkt' in confirmation ? 'DPoP' : 'Bearer',
  ...(confirmation === undefined ? {} : { cnf: confirmation }),
  exp: Math.floor(expiresAt / 1000),
  ...(issuedAt === 0 ? {} : { iat: Math.floor(issuedAt / 1000) }),
  ...(scopes.length === 0 ? {} : { scope: scopes.join(' ') }),
  // The server enforces them (RFC 9396 section 9).
  ...(Array.isArray(claims['authorization_details']) ? { authorization_details: claims['authorization_details'] } : {}),
  ...Object.fromEntries(
    ['client_id', 'jti'].flatMap((claim) => (typeof claims[claim] === 'string' ? [[claim, claims[claim]]] : [])),
  ),
})
