import type { Clock, Random } from '#clock'
import type { CurrentSnapshot, DownstreamOf } from '#config'
import type { CallProvider, ProviderClients } from '#credentials/provider'
import { DeputyError, refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import type { Envelope } from '#foundation/crypto'
import type { ConsentStore, Grant, GrantStore, UpstreamRevocationStore } from '#foundation/store'
import type { Logger, Telemetry } from '#foundation/telemetry'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import { askUser } from '../ask-user.ts'
import type { Connector, Credential, CredentialRequest, Revocable } from '../connector.ts'
import { isBoundAsWanted, openTokens, type GrantTokens } from './grant.ts'
import { createRefresh, fromGrant, isFresh, isRefreshing, type FreshToken, type RefreshRequest } from './refresh.ts'
import { isEnded } from './what-ends.ts'
import { createRejectedTokens } from './rejected-token.ts'
import { createTurns } from './turns.ts'
import { createUpstreamRevocation, endSealed } from './upstream-revocation.ts'

export interface OAuthGrantDependencies {
  readonly snapshot: CurrentSnapshot
  readonly grants: GrantStore
  readonly consents: ConsentStore
  readonly upstreamRevocations: UpstreamRevocationStore
  readonly envelope: Envelope
  readonly clients: ProviderClients
  readonly call: CallProvider
  readonly clock: Clock
  readonly random: Random
  /** The page on which the user can give these scopes. @param claims what the service wants to hear when the user comes (a claims challenge) */
  readonly connectUrl: (request: CredentialRequest, scopes: readonly string[], claims?: string) => Promise<string>
  /** Whether a revocation covers a grant: one that a store has brought back is none. */
  readonly isVoid: (grant: Grant) => boolean
  /** Resolves when `isVoid` knows every revocation that was recorded before. */
  readonly catchUp: () => Promise<void>
  readonly audit: AuditLog
  readonly telemetry: Telemetry
  readonly logger: Logger
  /** Who this process is among those that share the store, and whether there are others. */
  readonly owner: string
  readonly shared: boolean
  /** How long a provider may take to answer (ms). */
  readonly timeout: number
}

/** What is handed out is asked for again after this time at the latest (ms), also where the token lives until it is revoked. */
const LONGEST_USE = 86_400_000

/** What a request wants of a grant's access token. */
type GrantRequest = Pick<RefreshRequest, 'correlationId' | 'rejected'>

/** From this part of an access token's life on, a use of it refreshes it in the background. */
const AHEAD = 0.75

/** A refresh token that ends before the access token does is exchanged in time. */
const isYoung = ({ accessObtainedAt, accessExpiresAt, refreshUntil = Infinity }: GrantTokens, now: number): boolean =>
  now <= accessObtainedAt + (Math.min(accessExpiresAt, refreshUntil) - accessObtainedAt) * AHEAD

const covers = (granted: readonly string[], wanted: readonly string[]): boolean =>
  wanted.every((scope) => granted.includes(scope))

/**
 * `oauth_grant`: the user's own grant at an OAuth service. Never more than asked: when the grant holds more, the
 * access token is narrowed, or refused, or, where the downstream's file allows it, handed out and marked as wider.
 */
export const createOAuthGrantConnector = (
  deps: OAuthGrantDependencies,
): Connector & Revocable & { drainUpstreamRevocations(): Promise<void>; close(): Promise<void> } => {
  const { clients } = deps
  const inTurn = createTurns()
  const upstream = createUpstreamRevocation(deps)
  const { refresh, close } = createRefresh({
    ...deps,
    inTurn,
    isRevoked: async (grant) => {
      await deps.catchUp()
      return deps.isVoid(grant)
    },
    endSealed: (grant) => endSealed(upstream, grant),
    downstreamOf: (grant) => {
      const downstream = deps.snapshot().downstreams.get(grant.downstream)
      return downstream?.credential === 'oauth_grant' ? downstream : undefined
    },
  })
  const rejectedTokens = createRejectedTokens({ ...deps, inTurn })

  /**
   * The wanted scopes that the user gave. What was never offered to the user is asked for, together with what was
   * given before; what the user was offered and did not tick is not asked again.
   */
  const givenScopes = async (
    request: CredentialRequest,
    owner: Parameters<ConsentStore['find']>[0],
    grant: Grant,
  ): Promise<readonly string[]> => {
    if (covers(grant.scopes, request.scopes)) return request.scopes
    const consent = await deps.consents.find(owner)
    const declined = consent?.asked.filter((scope) => !consent.granted.includes(scope)) ?? []
    const missing = request.scopes.filter((scope) => !grant.scopes.includes(scope))
    const given = request.scopes.filter((scope) => grant.scopes.includes(scope))
    if (given.length > 0 && covers(declined, missing)) return given
    return askUser(deps.connectUrl, { request, scopes: againScopes(request, grant) }, 'interaction_required')
  }

  const fullToken = async (
    grant: Grant,
    tokens: GrantTokens,
    downstream: DownstreamOf<'oauth_grant'>,
    wish: GrantRequest,
  ): Promise<FreshToken> => {
    const { correlationId } = wish
    const now = deps.clock.now()
    const provider = deps.snapshot().providers.get(downstream.provider)
    if (
      wish.rejected !== undefined ||
      !isFresh(tokens, now) ||
      !isBoundAsWanted(tokens, downstream, provider) ||
      (grant.status !== 'active' && !isRefreshing(grant, now))
    )
      return refresh(grant, downstream, wish)
    const { ends_access_token: endsToken } = provider?.refresh ?? { ends_access_token: true }
    // Where a refresh ends the old access token, those who have it go on with it until it ends by itself.
    if (tokens.refreshToken !== undefined && !endsToken && !isYoung(tokens, now)) {
      refresh(grant, downstream, { goodEnough: isYoung, correlationId }).catch((error: unknown) => {
        deps.logger.info({ err: error, grant: grant.id }, 'a refresh ahead of time did not succeed')
      })
    }
    return fromGrant(grant, tokens, `The access token of the grant ${grant.id} was still good.`)
  }

  const tokenFor = async (
    grant: Grant,
    request: CredentialRequest,
    scopes: readonly string[],
  ): Promise<{ token: FreshToken; wider: boolean }> => {
    const downstream = request.downstream as DownstreamOf<'oauth_grant'>
    const tokens = await openTokens(deps.envelope, grant)
    // The provider may have given more than the user did.
    const isWhole = covers(scopes, tokens.accessScopes ?? grant.scopes)
    const isNarrowed = !isWhole && deps.snapshot().providers.get(downstream.provider)?.refresh.narrows === true
    const { rejected, correlationId } = request
    const mustRefresh = await rejectedTokens.mustRefresh(grant, tokens, rejected, isNarrowed)
    const wish: GrantRequest = { correlationId, ...(mustRefresh ? { rejected: rejected!.token } : {}) }
    if (isNarrowed) return { token: await refresh(grant, downstream, { ...wish, scopes }), wider: false }
    if (isWhole || downstream.wider === 'mark')
      return { token: await fullToken(grant, tokens, downstream, wish), wider: !isWhole }
    throw refuse('scope_not_narrowable', {
      provider: downstream.provider,
      granted: grant.scopes.join(' '),
      downstream: downstream.downstream,
    })
  }

  /** What the user is asked for anew: what is wanted now, with what was given before. */
  const againScopes = (request: CredentialRequest, grant: Grant): readonly string[] =>
    [
      ...new Set([
        ...request.scopes,
        ...grant.scopes.filter((scope) => Object.hasOwn(request.downstream.scopes, scope)),
      ]),
    ].sort()

  /** The connect URL belongs to who asks, so an error of the grant gets it here. */
  const withConnectUrl = async <T>(request: CredentialRequest, grant: Grant, work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      if (error instanceof DeputyError && error.code === 'step_up_required') {
        const { claims } = error.facts
        throw refuse(
          'step_up_required',
          {
            ...error.facts,
            connect_url: await deps.connectUrl(
              request,
              againScopes(request, grant),
              claims === undefined ? undefined : String(claims),
            ),
          },
          error,
        )
      }
      if (
        error instanceof DeputyError &&
        error.code === 'reconnect_required' &&
        error.facts['connect_url'] === undefined
      ) {
        return askUser(
          deps.connectUrl,
          { request, scopes: againScopes(request, grant) },
          'reconnect_required',
          String(error.facts['problem']),
        )
      }
      throw error
    }
  }

  return {
    kind: 'oauth_grant',

    async obtain(request): Promise<Credential> {
      const { principal, server } = request
      const downstream = request.downstream as DownstreamOf<'oauth_grant'>
      if (principal.kind !== 'user')
        throw refuse('target_unknown', { target: downstream.downstream, server: server.server })
      const owner = {
        tenant: principal.tenant,
        user: principal.user,
        server: server.server,
        downstream: downstream.downstream,
      }
      const grant = await deps.grants.find(owner)
      if (grant === undefined || deps.isVoid(grant))
        return askUser(deps.connectUrl, { request, scopes: request.scopes }, 'interaction_required')
      return withConnectUrl(request, grant, async () => {
        const client = await clients(downstream, owner.tenant)
        if (isEnded(grant) && !isRefreshing(grant, deps.clock.now()))
          throw refuse('reconnect_required', {
            downstream: owner.downstream,
            problem: grant.problem ?? 'the provider ended it',
          })
        if (grant.clientGeneration !== client.generation)
          throw refuse('reconnect_required', {
            downstream: owner.downstream,
            problem: 'its OAuth client, token endpoint or resource was changed since the user connected it',
          })
        const scopes = await givenScopes(request, owner, grant)
        const { token, wider } = await tokenFor(grant, request, scopes)
        const surplus = token.scopes.filter((scope) => !scopes.includes(scope))
        // A provider that answers a narrowing with more than was asked has not narrowed.
        if (surplus.length > 0 && downstream.wider !== 'mark')
          throw refuse('scope_not_narrowable', {
            provider: downstream.provider,
            granted: token.scopes.join(' '),
            downstream: downstream.downstream,
          })
        return {
          token: token.accessToken,
          issuedTokenType: ACCESS_TOKEN_TYPE,
          ...(token.proofKey === undefined ? { tokenType: 'Bearer' } : { tokenType: 'DPoP', proofKey: token.proofKey }),
          scopes: token.scopes.toSorted(),
          expiresAt: Math.min(token.expiresAt, deps.clock.now() + (downstream.lifetime ?? LONGEST_USE)),
          wider: wider || surplus.length > 0,
          grant: grant.id,
          fields: Object.fromEntries(
            Object.entries(token.fields).filter(([name]) => client.provider.response_fields.includes(name)),
          ),
          auditNote: token.auditNote,
        }
      })
    },

    prepare: upstream.prepare,
    revoke: upstream.revoke,
    sharedWith: upstream.sharedWith,
    drainUpstreamRevocations: upstream.drain,
    close,
  }
}
