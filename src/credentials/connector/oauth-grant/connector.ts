import type { Clock, Random } from '#clock'
import type { CurrentSnapshot, DownstreamOf } from '#config'
import type { CallProvider, ProviderClient, ProviderClients } from '#credentials/provider'
import { DeputyError, refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import type { Envelope } from '#foundation/crypto'
import type { ConsentStore, Grant, GrantStore, UpstreamRevocationStore } from '#foundation/store'
import type { Logger, Telemetry } from '#foundation/telemetry'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import { askUser } from '../ask-user.ts'
import type { Connector, Credential, CredentialRequest, Revocable } from '../connector.ts'
import { isBoundAsWanted, openTokens, type GrantTokens } from './grant.ts'
import { type FreshToken, fromGrant, isFresh, isRefreshing } from './fresh-token.ts'
import { createRefresh, type Refresher, type RefreshRequest } from './refresh.ts'
import { isEnded } from './what-ends.ts'
import { createRejectedTokens } from './rejected-token.ts'
import { createTurns } from './turns.ts'
import { endSealed, UpstreamRevocations } from './upstream-revocation.ts'

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
  /** The page on which the user can give these scopes. @param claims the service's claims challenge, for the authorization request */
  readonly connectUrl: (request: CredentialRequest, scopes: readonly string[], claims?: string) => Promise<string>
  /** Whether a revocation covers a grant, such as one that a restored store has brought back. */
  readonly isVoid: (grant: Grant) => boolean
  /** Resolves when `isVoid` knows every revocation that was recorded before. */
  readonly catchUp: () => Promise<void>
  readonly audit: AuditLog
  readonly telemetry: Telemetry
  readonly logger: Logger
  /** Name of this process among those that share the store. */
  readonly owner: string
  /** Whether other processes share the store. */
  readonly shared: boolean
  /** How long a provider may take to answer (ms). */
  readonly timeout: number
}

/** A credential is asked for again after this time at the latest (ms), even where the token lives until it is revoked. */
const MAX_USE_MS = 86_400_000

/** What a request wants of a grant's access token. */
type TokenRequest = Pick<RefreshRequest, 'correlationId' | 'rejected'>

/** From this part of an access token's life on, a use of it refreshes it in the background. */
const AHEAD = 0.75

/** A refresh token that ends before the access token does is exchanged in time. */
const isYoung = ({ accessObtainedAt, accessExpiresAt, refreshUntil = Infinity }: GrantTokens, now: number): boolean =>
  now <= accessObtainedAt + (Math.min(accessExpiresAt, refreshUntil) - accessObtainedAt) * AHEAD

const covers = (granted: readonly string[], wanted: readonly string[]): boolean =>
  wanted.every((scope) => granted.includes(scope))

const downstreamIn = (request: CredentialRequest) => request.downstream as DownstreamOf<'oauth_grant'>

/** The scopes for which the user is asked again: those that are wanted now, and those that were given before. */
const againScopes = (request: CredentialRequest, grant: Grant): readonly string[] =>
  [
    ...new Set([...request.scopes, ...grant.scopes.filter((scope) => Object.hasOwn(request.downstream.scopes, scope))]),
  ].sort()

const notNarrowable = ({ provider, downstream }: DownstreamOf<'oauth_grant'>, granted: readonly string[]) =>
  refuse('scope_not_narrowable', { provider, granted: granted.join(' '), downstream })

export interface OAuthGrantConnector extends Connector, Revocable {
  drainUpstreamRevocations(): Promise<void>
  close(): Promise<void>
}

/**
 * `oauth_grant`: the user's own grant at an OAuth service. Never more than asked: when the grant holds more, the
 * access token is narrowed, or refused, or, where the downstream's file allows it, handed out and marked as over-scoped.
 */
export const createOAuthGrantConnector = (deps: OAuthGrantDependencies): OAuthGrantConnector => {
  const inTurn = createTurns()
  const upstream = new UpstreamRevocations(deps)
  const refresher = createRefresh({
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
  const tokens = new GrantAccess({ ...deps, refresher, rejectedTokens: createRejectedTokens({ ...deps, inTurn }) })
  return {
    kind: 'oauth_grant',
    obtain: (request) => tokens.obtain(request),
    prepare: (grants) => upstream.prepare(grants),
    revoke: (grant, order) => upstream.revoke(grant, order),
    sharedWith: (grant) => upstream.sharedWith(grant),
    drainUpstreamRevocations: () => upstream.drain(),
    close: () => refresher.close(),
  }
}

interface GrantAccessDependencies extends OAuthGrantDependencies {
  readonly refresher: Refresher
  readonly rejectedTokens: ReturnType<typeof createRejectedTokens>
}

/** Obtains access tokens of users' grants. */
class GrantAccess {
  readonly #deps: GrantAccessDependencies

  constructor(deps: GrantAccessDependencies) {
    this.#deps = deps
  }

  async obtain(request: CredentialRequest): Promise<Credential> {
    const { principal, server } = request
    const downstream = downstreamIn(request)
    if (principal.kind !== 'user')
      throw refuse('target_unknown', { target: downstream.downstream, server: server.server })
    const { tenant, user } = principal
    const owner = { tenant, user, server: server.server, downstream: downstream.downstream }
    const grant = await this.#deps.grants.find(owner)
    if (grant === undefined || this.#deps.isVoid(grant))
      return askUser(this.#deps.connectUrl, { request, scopes: request.scopes }, 'interaction_required')
    return this.#withConnectUrl(request, grant, async () => {
      const client = await this.#deps.clients(downstream, tenant)
      this.#assertUsable(grant, client)
      const scopes = await this.#givenScopes(request, owner, grant)
      const obtained = await this.#tokenFor(grant, request, scopes)
      return this.#toCredential(obtained, { downstream, client, scopes })
    })
  }

  /** @throws DeputyError `reconnect_required` */
  #assertUsable(grant: Grant, client: ProviderClient): void {
    const { downstream } = grant
    if (isEnded(grant) && !isRefreshing(grant, this.#deps.clock.now()))
      throw refuse('reconnect_required', { downstream, problem: grant.problem ?? 'the provider ended it' })
    if (grant.clientGeneration !== client.generation)
      throw refuse('reconnect_required', {
        downstream,
        problem: 'its OAuth client, token endpoint or resource was changed since the user connected it',
      })
  }

  /**
   * The wanted scopes that the user gave. For scopes that the user was never offered the user is asked, together with those
   * given before; a scope that the user was offered and did not tick is not asked for again.
   */
  async #givenScopes(
    request: CredentialRequest,
    owner: Parameters<ConsentStore['find']>[0],
    grant: Grant,
  ): Promise<readonly string[]> {
    if (covers(grant.scopes, request.scopes)) return request.scopes
    const consent = await this.#deps.consents.find(owner)
    const declined = consent?.asked.filter((scope) => !consent.granted.includes(scope)) ?? []
    const missing = request.scopes.filter((scope) => !grant.scopes.includes(scope))
    const given = request.scopes.filter((scope) => grant.scopes.includes(scope))
    if (given.length > 0 && covers(declined, missing)) return given
    const scopes = againScopes(request, grant)
    return askUser(this.#deps.connectUrl, { request, scopes }, 'interaction_required')
  }

  async #tokenFor(
    grant: Grant,
    request: CredentialRequest,
    scopes: readonly string[],
  ): Promise<{ token: FreshToken; overScoped: boolean }> {
    const { envelope, snapshot, rejectedTokens, refresher } = this.#deps
    const downstream = downstreamIn(request)
    const tokens = await openTokens(envelope, grant)
    // The provider may have given more than the user did.
    const isWhole = covers(scopes, tokens.accessScopes ?? grant.scopes)
    const isNarrowed = !isWhole && snapshot().providers.get(downstream.provider)?.refresh.narrows === true
    const { rejected, correlationId } = request
    const mustRefresh = await rejectedTokens.mustRefresh(grant, tokens, rejected, isNarrowed)
    const wanted: TokenRequest = { correlationId, ...(mustRefresh ? { rejected: rejected!.token } : {}) }
    if (isNarrowed)
      return { token: await refresher.refresh(grant, downstream, { ...wanted, scopes }), overScoped: false }
    if (isWhole || downstream.over_scoped === 'mark')
      return { token: await this.#fullToken(grant, tokens, downstream, wanted), overScoped: !isWhole }
    throw notNarrowable(downstream, grant.scopes)
  }

  async #fullToken(
    grant: Grant,
    tokens: GrantTokens,
    downstream: DownstreamOf<'oauth_grant'>,
    wanted: TokenRequest,
  ): Promise<FreshToken> {
    const { snapshot, clock, refresher, logger } = this.#deps
    const now = clock.now()
    const provider = snapshot().providers.get(downstream.provider)
    if (
      wanted.rejected !== undefined ||
      !isFresh(tokens, now) ||
      !isBoundAsWanted(tokens, downstream, provider) ||
      (grant.status !== 'active' && !isRefreshing(grant, now))
    )
      return refresher.refresh(grant, downstream, wanted)
    const { ends_access_token: endsToken } = provider?.refresh ?? { ends_access_token: true }
    // Where a refresh ends the old access token, callers use that one until it expires.
    if (tokens.refreshToken !== undefined && !endsToken && !isYoung(tokens, now)) {
      const { correlationId } = wanted
      refresher.refresh(grant, downstream, { goodEnough: isYoung, correlationId }).catch((error: unknown) => {
        logger.info({ err: error, grant: grant.id }, 'a refresh ahead of time failed')
      })
    }
    return fromGrant(grant, tokens, `The access token of the grant ${grant.id} was still good.`)
  }

  #toCredential(
    { token, overScoped }: { readonly token: FreshToken; readonly overScoped: boolean },
    {
      downstream,
      client,
      scopes,
    }: {
      readonly downstream: DownstreamOf<'oauth_grant'>
      readonly client: ProviderClient
      readonly scopes: readonly string[]
    },
  ): Credential {
    const surplus = token.scopes.filter((scope) => !scopes.includes(scope))
    // A provider that answers a narrowing with more than was asked has not narrowed.
    if (surplus.length > 0 && downstream.over_scoped !== 'mark') throw notNarrowable(downstream, token.scopes)
    return {
      token: token.accessToken,
      issuedTokenType: ACCESS_TOKEN_TYPE,
      ...(token.proofKey === undefined ? { tokenType: 'Bearer' } : { tokenType: 'DPoP', proofKey: token.proofKey }),
      scopes: token.scopes.toSorted(),
      expiresAt: Math.min(token.expiresAt, this.#deps.clock.now() + (downstream.lifetime ?? MAX_USE_MS)),
      overScoped: overScoped || surplus.length > 0,
      grant: token.grant.id,
      fields: Object.fromEntries(
        Object.entries(token.fields).filter(([name]) => client.provider.response_fields.includes(name)),
      ),
      auditNote: token.auditNote,
    }
  }

  /** Adds the connect URL to an error of the grant: the URL depends on the caller. */
  async #withConnectUrl<T>(request: CredentialRequest, grant: Grant, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof DeputyError)) throw error
      const scopes = againScopes(request, grant)
      if (error.code === 'step_up_required') {
        const { claims } = error.facts
        const url = await this.#deps.connectUrl(request, scopes, claims === undefined ? undefined : String(claims))
        throw refuse('step_up_required', { ...error.facts, connect_url: url }, error)
      }
      if (error.code === 'reconnect_required' && error.facts['connect_url'] === undefined)
        return askUser(this.#deps.connectUrl, { request, scopes }, 'reconnect_required', String(error.facts['problem']))
      throw error
    }
  }
}
