import { setTimeout as sleep } from 'node:timers/promises'
import type * as openid from 'openid-client'
import type { Clock } from '#clock'
import type { DownstreamOf } from '#config'
import {
  type CallProvider,
  challengeIn,
  type ProviderClient,
  type ProviderClients,
  retryAfterOf,
  revokeTokens,
  UNSAID_WAIT,
} from '#credentials/provider'
import { DeputyError, refuse } from '#errors'
import { within } from '#foundation/async'
import type { AuditLog } from '#foundation/audit'
import { type Envelope, type ProofKey, Secret } from '#foundation/crypto'
import type { Grant, GrantStatus, GrantStore } from '#foundation/store'
import type { Logger, Telemetry } from '#foundation/telemetry'
import type { InTurn } from './turns.ts'
import { isBoundAsWanted, openTokens, sealTokens, type GrantTokens } from './grant.ts'
import { createGoneGrants, type Gone } from './gone.ts'
import { createPendingWrites } from './pending-writes.ts'
import { sendRefresh, toTokens, type FailedRefresh } from './send-refresh.ts'
import { certaintyOf, isEnded, pauseInDoubt, whatBecomes } from './what-ends.ts'

/** An access token out of a grant. */
export interface FreshToken {
  readonly grant: Grant
  readonly accessToken: Secret
  readonly scopes: readonly string[]
  readonly obtainedAt: number
  readonly expiresAt: number
  readonly fields: Readonly<Record<string, string>>
  /** Of a token that is bound to it. */
  readonly proofKey: ProofKey | undefined
  readonly auditNote: string
}

/** How long a caller waits for a refresh, its own or another's (ms). The refresh goes on when the caller gives up. */
const PATIENCE = 15_000
/** At the end of the process refreshes under way, and then writes that are held, have so long (ms). */
const FAREWELL_MS = 3000
/** How much longer than the provider may take a claim lasts (ms): for the writes around the call, and clocks that differ. */
const CLAIM_MARGIN = 3000
/** The first and the longest pause between two looks at a grant that another node refreshes (ms). */
const [FIRST_LOOK, LAST_LOOK] = [10, 250]
export interface RefreshRequest {
  /** Narrows the access token to these scopes (RFC 6749 section 6). */
  readonly scopes?: readonly string[]
  /** Whether the access token that is there needs no refresh; default: it outlasts a call. */
  readonly goodEnough?: (tokens: GrantTokens, now: number) => boolean
  /** The access token that the service refused: while it is the one at hand, a refresh is needed. */
  readonly rejected?: Secret
  /** Of the request that caused the refresh: its story tells what the provider said. */
  readonly correlationId: string
}

export interface RefreshDependencies {
  readonly grants: GrantStore
  readonly envelope: Envelope
  readonly clients: ProviderClients
  readonly call: CallProvider
  readonly audit: AuditLog
  readonly telemetry: Telemetry
  readonly logger: Logger
  readonly clock: Clock
  /** Who this process is among those that share the store. */
  readonly owner: string
  /** Whether another owner's claim may still be worked on; false where this process is the only one. */
  readonly shared: boolean
  /** How long a provider may take to answer (ms). */
  readonly timeout: number
  readonly inTurn: InTurn
  /** Whether a grant is revoked, of all that was recorded before this was asked. */
  readonly isRevoked: (grant: Grant) => Promise<boolean>
  /**
   * Ends what is sealed in a grant, when no other grant is in use that would end with it. @returns false where no order
   * for it can be written
   */
  readonly endSealed: (grant: Grant) => Promise<boolean>
  /** Undefined where the files do not name it any more. */
  readonly downstreamOf: (grant: Grant) => DownstreamOf<'oauth_grant'> | undefined
}

/**
 * One refresh of a grant at a time (promise 6). In a process those who want the same share it, the others wait their
 * turn. Over all nodes the grant itself says who refreshes it: the claim is a write that names the version it read, and
 * so is every write after it, so that whoever comes back late has nothing to write to (fencing).
 */
export const createRefresh = (deps: RefreshDependencies) => {
  const shared = new Map<string, Promise<FreshToken>>()
  const { grants, envelope, clock, inTurn } = deps

  const isClaimed = (grant: Grant): boolean =>
    deps.shared && grant.refreshing?.owner !== deps.owner && isRefreshing(grant, clock.now())

  const settleGone = createGoneGrants(deps)
  const pending = createPendingWrites({
    grants,
    now: () => clock.now(),
    logger: deps.logger,
    settleGone: (grant) =>
      settleGone(grant, async () => {
        const downstream = deps.downstreamOf(grant)
        if (downstream !== undefined)
          await endUnkept(await deps.clients(downstream, grant.tenant), await openTokens(envelope, grant), grant)
      }),
  })

  /** @returns undefined if another node has written the grant since it was read */
  const claim = async (grant: Grant, change: Partial<Grant>): Promise<Grant | undefined> => {
    // On a store of our own the turns are enough, and a provider that does not rotate leaves no doubt to write down.
    if (!deps.shared && change.status === undefined) return grant
    try {
      return await grants.update({
        ...grant,
        ...change,
        updatedAt: clock.now(),
        refreshing: { owner: deps.owner, until: clock.now() + deps.timeout + CLAIM_MARGIN },
      })
    } catch (error) {
      if (error instanceof DeputyError && error.code === 'conflict') return undefined
      throw error
    }
  }

  /** Writes the grant only if nobody else has, meanwhile. A grant that is gone was revoked: what was got for it is ended. */
  const writeBack = async (grant: Grant, change: Partial<Grant>): Promise<Grant> =>
    grants.update({ ...grant, ...change, updatedAt: clock.now(), refreshing: undefined })

  /** The work of one turn: everything is read anew, because the turn before may have changed it. */
  const refreshNow = async (
    id: string,
    downstream: DownstreamOf<'oauth_grant'>,
    wish: RefreshRequest,
    deadline: number,
    pause = FIRST_LOOK,
  ): Promise<FreshToken> => {
    const { scopes, goodEnough = isFresh, rejected, correlationId } = wish
    // What a provider has answered comes before another question to it.
    await pending.settle(id)
    const grant = await grants.get(id)
    if (grant === undefined)
      throw refuse('revoked', { scope: 'the grant', revoked_at: new Date(clock.now()).toISOString() })
    const again = async (): Promise<FreshToken> => {
      if (performance.now() > deadline)
        throw refuse('refresh_in_progress', { downstream: grant.downstream, seconds: 2 })
      await sleep(pause)
      return refreshNow(id, downstream, wish, deadline, Math.min(pause * 2, LAST_LOOK))
    }
    if (isClaimed(grant)) return again()
    const client = await deps.clients(downstream, grant.tenant)
    const kept = await openTokens(envelope, grant)
    const proof = await client.proof(kept.proofKey)
    // What comes back may be bound to the key that is proved now, also where what was there before is not.
    const proved = proof === undefined ? kept : { ...kept, proofKey: proof.key }
    const tokens = rejected === undefined ? proved : { ...proved, forcedAt: clock.now() }
    if (
      scopes === undefined &&
      goodEnough(tokens, clock.now()) &&
      rejected?.reveal() !== tokens.accessToken.reveal() &&
      isBoundAsWanted(tokens, downstream, client.provider) &&
      grant.status === 'active'
    )
      return fromGrant(grant, tokens, 'The access token was refreshed a moment ago.')
    assertRefreshable(grant, client, tokens)
    const [from, doubts] = [certaintyOf(grant), tokens.doubts ?? 0]
    const { rotates, leeway } = client.provider.refresh
    const wait = from === 'sure' || !rotates ? 0 : grant.updatedAt + pauseInDoubt(doubts) - clock.now()
    if (wait > 0) {
      if (scopes === undefined && rejected === undefined && isFresh(tokens, clock.now()))
        return fromGrant(grant, tokens, 'The access token is still good; the answer to its last refresh is not known.')
      throw refuse('provider_unavailable', {
        provider: client.provider.provider,
        problem: grant.problem ?? 'its answer did not arrive',
        seconds: Math.ceil(wait / 1000),
      })
    }
    const claimed = performance.now()
    const sending = await claim(grant, {
      ...(rotates ? { status: 'uncertain', problem: 'a refresh was sent and its answer is not known' } : {}),
      // Counted before it is sent: a process that dies has tried as well.
      ...(rotates && from === 'doubtful'
        ? { sealed: await sealTokens(envelope, grant, { ...tokens, doubts: doubts + 1 }) }
        : {}),
    })
    if (sending === undefined) return again()
    const until = claimed + CLAIM_MARGIN / 2
    const send = () => sendRefresh(deps, { client, tokens, grant, downstream, scopes, before: until, proof })
    let sent = await send()
    // Within its leeway the provider answers the token that we hold once more: a lost answer leaves no doubt.
    if (sent.event === 'lost' && performance.now() < Math.min(until, claimed + leeway)) sent = await send()
    if (sent.event === 'answered') return await keep(sending, tokens, sent.response, downstream, client, scopes)
    const status = whatBecomes(from, sent.event, { rotates })
    return await abandon(sending, tokens, sent, status, client, correlationId)
  }

  const keep = async (
    grant: Grant,
    before: GrantTokens,
    response: openid.TokenEndpointResponse,
    downstream: DownstreamOf<'oauth_grant'>,
    client: ProviderClient,
    asked: readonly string[] | undefined,
  ): Promise<FreshToken> => {
    const after = await toTokens(client, before, response, { downstream, grant, asked, now: clock.now() })
    // A narrowed access token is not the grant's own: only the refresh token that came with it is kept.
    const stored =
      asked === undefined
        ? after
        : {
            ...before,
            doubts: undefined,
            refreshToken: after.refreshToken,
            refreshUntil: after.refreshUntil,
            fields: after.fields,
          }
    let kept: Grant
    let sealed: Uint8Array | undefined
    try {
      sealed = await sealTokens(envelope, grant, stored)
      kept = await writeBack(grant, { status: 'active', problem: null, sealed })
    } catch (error) {
      if (error instanceof DeputyError && (error.code === 'conflict' || error.code === 'secret_unreadable')) {
        kept = await keepGone({ ...answered(grant), sealed: sealed ?? grant.sealed }, error, () =>
          endUnkept(client, after, sealed === undefined ? undefined : { ...grant, sealed }),
        )
      } else if (sealed !== undefined && error instanceof DeputyError && error.code === 'store_unavailable') {
        deps.logger.warn(
          { err: error, grant: grant.id },
          'the store did not take the answer to a refresh; it is kept in memory, sealed, and written when the store is back',
        )
        pending.add({ ...answered(grant), sealed })
        throw error
      } else throw error
    }
    deps.telemetry.refresh({ provider: client.provider.provider, outcome: 'done' })
    return {
      grant: kept,
      accessToken: after.accessToken,
      scopes: after.accessScopes ?? grant.scopes,
      obtainedAt: after.accessObtainedAt,
      expiresAt: after.accessExpiresAt,
      fields: after.fields ?? {},
      proofKey: keyOf(after),
      auditNote: `${client.provider.name} answered the refresh with a new access token.`,
    }
  }

  /** A grant as it is when the provider has answered. */
  const answered = (grant: Grant): Grant => ({
    ...grant,
    status: 'active',
    problem: null,
    updatedAt: clock.now(),
    refreshing: undefined,
  })

  /**
   * An answer for which there is nothing to write to, or whose tenant has no key any more.
   * @returns the grant as it was written again, where the store had lost it
   */
  const keepGone = async (grant: Grant, error: DeputyError, end: () => Promise<void>): Promise<Grant> => {
    const outcome = async (): Promise<Gone> => {
      if (error.code !== 'conflict') {
        await end()
        return { kind: 'ended' }
      }
      // The row is there, so the grant was not revoked: the node that has claimed it since then answers for it.
      if ((await grants.get(grant.id)) !== undefined) return { kind: 'back' }
      return settleGone(grant, end)
    }
    const gone = await outcome().catch((problem: unknown) => {
      if (error.code === 'conflict') pending.add(grant)
      throw problem
    })
    if (gone.kind === 'written') return gone.grant
    if (gone.kind === 'back') throw refuse('refresh_in_progress', { downstream: grant.downstream, seconds: 2 }, error)
    throw refuse('revoked', { scope: 'the grant', revoked_at: new Date(clock.now()).toISOString() }, error)
  }

  /**
   * Tokens that arrived for a grant that was revoked meanwhile must not live on at the provider. @param sealed the
   * grant with them, where they could be sealed
   */
  const endUnkept = async (client: ProviderClient, tokens: GrantTokens, sealed?: Grant): Promise<void> => {
    if (sealed !== undefined && (await deps.endSealed(sealed))) return
    await revokeTokens(client, tokens).catch((error: unknown) => {
      deps.logger.warn({ err: error }, 'tokens of a revoked grant could not be ended at their provider')
    })
  }

  const abandon = async (
    grant: Grant,
    tokens: GrantTokens,
    sent: FailedRefresh,
    status: GrantStatus,
    client: ProviderClient,
    correlationId: string,
  ): Promise<never> => {
    const { provider } = client.provider
    const { words } = sent
    // The answer may have brought a new refresh token although the rest of it cannot be used: it is the one that counts now.
    const isNewToken = sent.event === 'unverified' && sent.kept.refresh_token !== undefined
    const isTry = sent.event === 'lost' || sent.event === 'unverified'
    const sealed = isNewToken
      ? await sealTokens(envelope, grant, {
          ...tokens,
          doubts: undefined,
          refreshToken: new Secret(sent.kept.refresh_token!),
        })
      : // What the provider cannot have acted on leaves no more doubt than there was.
        isTry || status !== 'uncertain'
        ? grant.sealed
        : await sealTokens(envelope, grant, tokens)
    const doubt = isNewToken ? 'uncertain' : status
    await writeBack(grant, { status: doubt, sealed, problem: doubt === 'active' ? null : words }).catch(
      (error: unknown) => {
        deps.logger.warn({ err: error, grant: grant.id }, 'the outcome of a refresh was not written')
      },
    )
    deps.telemetry.refresh({
      provider,
      outcome: doubt === 'reconnect_required' ? 'ended' : doubt === 'uncertain' ? 'uncertain' : 'failed',
    })
    await deps.audit.append({
      id: correlationId,
      event: 'grant.refresh',
      outcome: 'failed',
      tenant: grant.tenant,
      user: grant.user,
      server: grant.server,
      downstream: grant.downstream,
      detail: { provider, grant: grant.id, status: doubt, auditNote: `${client.provider.name}: ${words}` },
    })
    if (doubt === 'reconnect_required')
      throw refuse('reconnect_required', { downstream: grant.downstream, problem: words }, sent.error)
    if (sent.error instanceof DeputyError) throw sent.error
    if (sent.event === 'challenged')
      throw refuse(
        'step_up_required',
        { downstream: grant.downstream, problem: words, ...challengeIn(sent.error) },
        sent.error,
      )
    if (sent.event === 'refused' || sent.event === 'unverified')
      throw refuse('provider_refused', { provider, problem: words }, sent.error)
    throw refuse(
      'provider_unavailable',
      { provider, problem: words, seconds: Math.ceil((retryAfterOf(sent.error, clock.now()) ?? UNSAID_WAIT) / 1000) },
      sent.error,
    )
  }

  const assertRefreshable = (grant: Grant, client: ProviderClient, tokens: GrantTokens): void => {
    const { downstream } = grant
    if (isEnded(grant))
      throw refuse('reconnect_required', { downstream, problem: grant.problem ?? 'the provider ended it' })
    if (grant.clientGeneration !== client.generation)
      throw refuse('reconnect_required', {
        downstream,
        problem: 'its OAuth client, token endpoint or resource was changed since the user connected it',
      })
    if (tokens.refreshToken === undefined)
      throw refuse('reconnect_required', {
        downstream,
        problem: 'its access token has ended and the provider gave no refresh token',
      })
  }

  /**
   * A fresh access token of the grant.
   * @throws DeputyError `refresh_in_progress` when it takes too long, and of the categories grant and provider
   */
  const refresh = async (
    grant: Grant,
    downstream: DownstreamOf<'oauth_grant'>,
    wish: RefreshRequest,
  ): Promise<FreshToken> => {
    const key = `${grant.id} ${wish.rejected === undefined ? '' : 'anew'} ${wish.scopes?.join(' ') ?? ''}`
    let work = shared.get(key)
    if (work === undefined) {
      work = inTurn(grant.id, () => refreshNow(grant.id, downstream, wish, performance.now() + PATIENCE)).finally(
        () => {
          shared.delete(key)
        },
      )
      shared.set(key, work)
    } else deps.telemetry.refresh({ provider: downstream.provider, outcome: 'joined' })
    return await within(PATIENCE, work, () =>
      refuse('refresh_in_progress', { downstream: downstream.downstream, seconds: 2 }),
    )
  }

  /** Waits for the refreshes under way, and then has what providers have answered written: only this process has it. */
  const close = async (): Promise<void> => {
    const soon = (work: Promise<unknown>): Promise<unknown> =>
      within(FAREWELL_MS, work, () => new Error('late')).catch(() => undefined)
    await soon(Promise.allSettled(shared.values()))
    await soon(pending.close())
  }

  return { refresh, close }
}

/** Somebody is at it, or was and has not said how it went. */
export const isRefreshing = ({ refreshing }: Grant, now: number): boolean =>
  refreshing !== undefined && refreshing.until > now

/** Whether an access token outlasts the call that it is for: more than 30 seconds, or a tenth of its life, are left. */
export const isFresh = (
  { accessObtainedAt, accessExpiresAt }: Pick<GrantTokens, 'accessObtainedAt' | 'accessExpiresAt'>,
  now: number,
): boolean => accessExpiresAt - now > Math.min(30_000, (accessExpiresAt - accessObtainedAt) / 10)

const keyOf = ({ bound, proofKey }: GrantTokens): ProofKey | undefined => (bound === true ? proofKey : undefined)

export const fromGrant = (grant: Grant, tokens: GrantTokens, auditNote: string): FreshToken => ({
  grant,
  accessToken: tokens.accessToken,
  scopes: tokens.accessScopes ?? grant.scopes,
  obtainedAt: tokens.accessObtainedAt,
  expiresAt: tokens.accessExpiresAt,
  fields: tokens.fields ?? {},
  proofKey: keyOf(tokens),
  auditNote,
})
