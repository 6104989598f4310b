import type * as openid from 'openid-client'
import type { Clock } from '#clock'
import type { DownstreamOf } from '#config'
import { challengeIn, type ProviderClient, retryAfterOf, revokeTokens, DEFAULT_WAIT_MS } from '#credentials/provider'
import { DeputyError, refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import { type Envelope, Secret } from '#foundation/crypto'
import type { Grant, GrantStatus, GrantStore } from '#foundation/store'
import type { Logger, Telemetry } from '#foundation/telemetry'
import { type FreshToken, fromGrant } from './fresh-token.ts'
import { createGoneGrants, type Gone } from './gone.ts'
import { type GrantTokens, openTokens, sealTokens } from './grant.ts'
import { createPendingWrites, type PendingWrites } from './pending-writes.ts'
import { toTokens, type FailedRefresh } from './send-refresh.ts'

export interface RefreshOutcomeDependencies {
  readonly grants: GrantStore
  readonly envelope: Envelope
  readonly audit: AuditLog
  readonly telemetry: Telemetry
  readonly logger: Logger
  readonly clock: Clock
  readonly clients: (downstream: DownstreamOf<'oauth_grant'>, tenant: string) => Promise<ProviderClient>
  /** Whether a grant is revoked, of all that was recorded before this was asked. */
  readonly isRevoked: (grant: Grant) => Promise<boolean>
  /**
   * Ends the tokens that are sealed in a grant, when no other grant in use would end with them. @returns false where no order
   * for it can be written
   */
  readonly endSealed: (grant: Grant) => Promise<boolean>
  /** Undefined where the files do not name it any more. */
  readonly downstreamOf: (grant: Grant) => DownstreamOf<'oauth_grant'> | undefined
}

/** A refresh token that was sent, for the grant as it was claimed. */
export interface SentRefresh {
  readonly grant: Grant
  readonly tokens: GrantTokens
  readonly downstream: DownstreamOf<'oauth_grant'>
  readonly client: ProviderClient
  /** The scopes to which the access token was narrowed. */
  readonly scopes: readonly string[] | undefined
  readonly correlationId: string
}

/** A grant as it is when the provider has answered. */
const answered = (grant: Grant, now: number): Grant => ({
  ...grant,
  status: 'active',
  problem: null,
  updatedAt: now,
  refreshing: undefined,
})

/** The tokens to store after an answer. A narrowed access token is not the grant's own: only the refresh token that came with it is stored. */
const tokensToStore = (before: GrantTokens, after: GrantTokens, isNarrowed: boolean): GrantTokens =>
  isNarrowed
    ? {
        ...before,
        doubts: undefined,
        refreshToken: after.refreshToken,
        refreshUntil: after.refreshUntil,
        fields: after.fields,
      }
    : after

/** Writes down the outcome of a refresh, fenced: every write names the version of the grant that was claimed. */
export class RefreshOutcome {
  readonly #deps: RefreshOutcomeDependencies
  readonly #settleGone: ReturnType<typeof createGoneGrants>
  /** Answers of providers that the store has not taken yet. */
  readonly pending: PendingWrites

  constructor(deps: RefreshOutcomeDependencies) {
    this.#deps = deps
    this.#settleGone = createGoneGrants(deps)
    this.pending = createPendingWrites({
      grants: deps.grants,
      now: () => deps.clock.now(),
      logger: deps.logger,
      settleGone: (grant) => this.#settleGone(grant, () => this.#endStored(grant)),
    })
  }

  /** The provider has answered with tokens. @throws DeputyError `revoked`, `refresh_in_progress`, those of the store */
  async succeeded(sent: SentRefresh, response: openid.TokenEndpointResponse): Promise<FreshToken> {
    const { grant, tokens, downstream, client, scopes } = sent
    const after = await toTokens(client, tokens, response, {
      downstream,
      grant,
      asked: scopes,
      now: this.#deps.clock.now(),
    })
    const stored = await this.#store(sent, after)
    this.#deps.telemetry.refresh({ provider: client.provider.provider, outcome: 'done' })
    return fromGrant(stored, after, `${client.provider.name} answered the refresh with a new access token.`)
  }

  /**
   * The refresh brought no token to hand out. @param status what becomes of the grant
   * @throws DeputyError always: `reconnect_required`, `step_up_required`, `provider_refused`, `provider_unavailable`
   */
  async failed(sent: SentRefresh, failure: FailedRefresh, status: GrantStatus): Promise<never> {
    const { logger, telemetry } = this.#deps
    const { grant, client } = sent
    // The answer may have brought a new refresh token although the rest of it is not valid: from then on that token counts.
    const isNewToken = failure.event === 'unverified' && failure.received.refresh_token !== undefined
    const sealed = await this.#sealedAfter(sent, failure, status)
    const outcome = isNewToken ? 'uncertain' : status
    const problem = outcome === 'active' ? null : failure.words
    await this.#write(grant, { status: outcome, sealed, problem }).catch((error: unknown) => {
      logger.warn({ err: error, grant: grant.id }, 'the outcome of a refresh was not written')
    })
    telemetry.refresh({
      provider: client.provider.provider,
      outcome: outcome === 'reconnect_required' ? 'ended' : outcome === 'uncertain' ? 'uncertain' : 'failed',
    })
    await this.#recordFailure(sent, outcome, failure.words)
    throw refusalFor(failure, { sent, isEnded: outcome === 'reconnect_required', now: this.#deps.clock.now() })
  }

  /** Writes the grant only if no other node has written it meanwhile. */
  #write(grant: Grant, change: Partial<Grant>): Promise<Grant> {
    return this.#deps.grants.update({
      ...grant,
      ...change,
      updatedAt: this.#deps.clock.now(),
      refreshing: undefined,
    })
  }

  async #store({ grant, tokens, client, scopes }: SentRefresh, after: GrantTokens): Promise<Grant> {
    const { envelope, clock, logger } = this.#deps
    let sealed: Uint8Array | undefined
    try {
      sealed = await sealTokens(envelope, grant, tokensToStore(tokens, after, scopes !== undefined))
      return await this.#write(grant, { status: 'active', problem: null, sealed })
    } catch (error) {
      if (!(error instanceof DeputyError)) throw error
      if (error.code === 'conflict' || error.code === 'secret_unreadable')
        return this.#storeGone({ ...answered(grant, clock.now()), sealed: sealed ?? grant.sealed }, error, () =>
          this.#end(client, after, sealed === undefined ? undefined : { ...grant, sealed }),
        )
      if (sealed !== undefined && error.code === 'store_unavailable') {
        logger.warn(
          { err: error, grant: grant.id },
          'the store did not take the answer to a refresh; it stays in memory, sealed, and is written when the store is back',
        )
        this.pending.add({ ...answered(grant, clock.now()), sealed })
      }
      throw error
    }
  }

  /**
   * An answer for a grant whose row is gone, or whose tenant has no key any more.
   * @param end ends the answered tokens at the provider
   * @returns the grant as it was written again, where the store had lost it
   */
  async #storeGone(grant: Grant, error: DeputyError, end: () => Promise<void>): Promise<Grant> {
    const { grants, clock } = this.#deps
    const settle = async (): Promise<Gone> => {
      if (error.code !== 'conflict') {
        await end()
        return { kind: 'ended' }
      }
      // The row exists, so the grant was not revoked: the node that has claimed it since then is responsible for it.
      if ((await grants.get(grant.id)) !== undefined) return { kind: 'back' }
      return this.#settleGone(grant, end)
    }
    const gone = await settle().catch((problem: unknown) => {
      if (error.code === 'conflict') this.pending.add(grant)
      throw problem
    })
    if (gone.kind === 'written') return gone.grant
    if (gone.kind === 'back') throw refuse('refresh_in_progress', { downstream: grant.downstream, seconds: 2 }, error)
    throw refuse('revoked', { scope: 'the grant', revoked_at: new Date(clock.now()).toISOString() }, error)
  }

  async #endStored(grant: Grant): Promise<void> {
    const { clients, envelope, downstreamOf } = this.#deps
    const downstream = downstreamOf(grant)
    if (downstream !== undefined)
      await this.#end(await clients(downstream, grant.tenant), await openTokens(envelope, grant), grant)
  }

  /**
   * Ends tokens that arrived for a grant that was revoked meanwhile, at their provider. @param sealed the grant with them, where
   * they could be sealed
   */
  async #end(client: ProviderClient, tokens: GrantTokens, sealed?: Grant): Promise<void> {
    if (sealed !== undefined && (await this.#deps.endSealed(sealed))) return
    await revokeTokens(client, tokens).catch((error: unknown) => {
      this.#deps.logger.warn({ err: error }, 'tokens of a revoked grant were not ended at their provider')
    })
  }

  async #sealedAfter(
    { grant, tokens }: SentRefresh,
    { event, received }: FailedRefresh,
    status: GrantStatus,
  ): Promise<Uint8Array> {
    const { envelope } = this.#deps
    if (event === 'unverified' && received.refresh_token !== undefined)
      return sealTokens(envelope, grant, {
        ...tokens,
        doubts: undefined,
        refreshToken: new Secret(received.refresh_token),
      })
    // A request that the provider cannot have acted on adds no doubt.
    const isTry = event === 'lost' || event === 'unverified'
    return isTry || status !== 'uncertain' ? grant.sealed : sealTokens(envelope, grant, tokens)
  }

  #recordFailure({ grant, client, correlationId }: SentRefresh, status: GrantStatus, words: string): Promise<void> {
    const { provider, name } = client.provider
    return this.#deps.audit.append({
      id: correlationId,
      event: 'grant.refresh',
      outcome: 'failed',
      tenant: grant.tenant,
      user: grant.user,
      server: grant.server,
      downstream: grant.downstream,
      detail: { provider, grant: grant.id, status, auditNote: `${name}: ${words}` },
    })
  }
}

/** The refusal that the caller gets after a refresh that failed. */
const refusalFor = (
  { event, error, words: problem }: FailedRefresh,
  { sent, isEnded, now }: { readonly sent: SentRefresh; readonly isEnded: boolean; readonly now: number },
): DeputyError => {
  const { downstream } = sent.grant
  const { provider } = sent.client.provider
  if (isEnded) return refuse('reconnect_required', { downstream, problem }, error)
  if (error instanceof DeputyError) return error
  if (event === 'challenged') return refuse('step_up_required', { downstream, problem, ...challengeIn(error) }, error)
  if (event === 'refused' || event === 'unverified') return refuse('provider_refused', { provider, problem }, error)
  const seconds = Math.ceil((retryAfterOf(error, now) ?? DEFAULT_WAIT_MS) / 1000)
  return refuse('provider_unavailable', { provider, problem, seconds }, error)
}
