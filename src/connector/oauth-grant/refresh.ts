import { setTimeout as sleep } from 'node:timers/promises'
import * as openid from 'openid-client'
import { z } from 'zod'
import type { AuditLog } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { within } from '../../deadline.ts'
import type { DownstreamOf } from '../../config/downstream.ts'
import type { Envelope } from '../../crypto/envelope.ts'
import type { ProofKey } from '../../crypto/proof-key.ts'
import { Secret } from '../../crypto/secret.ts'
import { DeputyError, refuse } from '../../errors.ts'
import type { Logger } from '../../observe/logger.ts'
import type { Telemetry } from '../../observe/telemetry.ts'
import type { Grant, GrantStatus, GrantStore } from '../../store/records/grants.ts'
import { audiencesOf, isBound, isOfAnother, problemOfAnswer, type Proof } from '../provider/token-answer.ts'
import { withNonce, type ProviderClient, type ProviderClients } from '../provider/client.ts'
import { fieldsOf, scopesOf } from '../provider/dialect.ts'
import { revokeTokens } from '../provider/revocation.ts'
import { refreshUntilOf, tokenLifeOf } from '../provider/token-life.ts'
import type { InTurn } from './turns.ts'
import { isBoundAsWanted, openTokens, sealTokens, type GrantTokens } from './grant.ts'
import {
  challengeIn,
  failureOf,
  plainly,
  retryAfterOf,
  UNSAID_WAIT,
  wordsOf,
  type CallFailure,
  type CallProvider,
} from '../provider/call.ts'

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
  readonly story: string
}

type Event = 'answered' | CallFailure

/**
 * What becomes of a grant. `sending` is the moment before a request leaves: a provider that rotates may already have
 * ended the token that we hold when our process dies or the answer is lost, so the doubt is written down first
 * (threat 21). From `uncertain` the kept token is tried once more, and when that answer is lost as well the user has to connect
 * again: never a loop that replays a token, which providers answer by ending the whole family (RFC 9700 section 4.14.2).
 * A refusal that does not name the grant is about the client or the provider: it never ends a grant.
 */
export const transitions: Readonly<Record<'active' | 'uncertain', Readonly<Record<Event, GrantStatus>>>> = {
  active: {
    answered: 'active',
    denied: 'reconnect_required',
    challenged: 'active',
    refused: 'active',
    not_sent: 'active',
    lost: 'uncertain',
    unverified: 'uncertain',
  },
  uncertain: {
    answered: 'active',
    denied: 'reconnect_required',
    challenged: 'uncertain',
    refused: 'uncertain',
    not_sent: 'uncertain',
    lost: 'reconnect_required',
    unverified: 'reconnect_required',
  },
}

/** A provider that does not rotate has not ended the token that we hold, whatever became of its answer. */
const statusAfter = (from: 'active' | 'uncertain', event: Event, { provider }: ProviderClient): GrantStatus =>
  provider.refresh.rotates || event === 'denied' ? transitions[from][event] : 'active'

/** How long a caller waits for a refresh, its own or another's (ms). The refresh goes on when the caller gives up. */
const PATIENCE = 15_000
/** How much longer than the provider may take a claim lasts (ms): for the writes around the call, and clocks that differ. */
const CLAIM_MARGIN = 3000
/** The first and the longest pause between two looks at a grant that another node refreshes (ms). */
const [FIRST_LOOK, LAST_LOOK] = [10, 250]
const keptSchema = z.looseObject({
  access_token: z.string().min(1).optional().catch(undefined),
  refresh_token: z.string().min(1).optional().catch(undefined),
})

export interface RefreshWish {
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

  /** @returns undefined if somebody else has written the grant since it was read */
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

  const send = async (
    client: ProviderClient,
    tokens: GrantTokens,
    grant: Grant,
    downstream: DownstreamOf<'oauth_grant'>,
    scopes: readonly string[] | undefined,
    before: number,
    proof: Proof | undefined,
  ) => {
    let seen = ''
    const parameters: Record<string, string> = {
      ...(scopes === undefined ? {} : { scope: scopes.join(client.provider.scope_separator) }),
      ...(tokens.resource === undefined ? {} : { resource: tokens.resource }),
      ...(client.provider.refresh.redirect_uri && tokens.redirectUri !== undefined
        ? { redirect_uri: tokens.redirectUri }
        : {}),
    }
    try {
      const response = await deps.call(
        { provider: client.provider.provider, tenant: grant.tenant, operation: 'refresh' },
        () =>
          withNonce(proof, () => {
            // A process that slept meanwhile, or waited for a nonce, may find its claim over: what it sends now could meet what another has sent.
            if (performance.now() > before)
              throw refuse('refresh_in_progress', { downstream: grant.downstream, seconds: 2 })
            return openid.refreshTokenGrant(
              client.configuration((_status, text) => {
                seen = text
              }, proof),
              tokens.refreshToken!.reveal(),
              parameters,
            )
          }),
      )
      const foreign = isOfAnother(tokens.accessToken.reveal(), response.access_token)
      const problem = foreign
        ? 'it issued a token for somebody else'
        : problemOfAnswer(response, audiencesOf(downstream), proof)
      if (problem === undefined) return { event: 'answered' as const, response }
      const error = refuse('provider_refused', { provider: client.provider.provider, problem })
      return { event: 'unverified' as const, error, words: problem, kept: foreign ? {} : keptFrom(seen) }
    } catch (thrown) {
      const error = plainly(thrown)
      return {
        event: failureOf(error),
        error,
        words: wordsOf(error, seen.replaceAll(tokens.refreshToken!.reveal(), '***')),
        kept: keptFrom(seen),
      }
    }
  }

  const toTokens = async (
    client: ProviderClient,
    before: GrantTokens,
    response: openid.TokenEndpointResponse,
    {
      downstream,
      grant,
      asked,
    }: { downstream: DownstreamOf<'oauth_grant'>; grant: Grant; asked: readonly string[] | undefined },
  ): Promise<GrantTokens> => {
    const now = clock.now()
    const lifetime = Math.min(await tokenLifeOf(client, response, now), downstream.lifetime ?? Infinity)
    return {
      ...before,
      fields: { ...before.fields, ...fieldsOf(client.provider, response) },
      accessToken: new Secret(response.access_token),
      accessObtainedAt: now,
      // RFC 6749 section 5.1: an answer that names no scopes means those that were asked for. Without a narrowing these are
      // the last that the provider named: one that widened the token has not taken that back by saying nothing.
      accessScopes:
        scopesOf(client.provider, response, asked ?? grant.scopes, downstream.scopes) ?? asked ?? before.accessScopes,
      accessExpiresAt: now + lifetime,
      refreshUntil: refreshUntilOf(response, now),
      bound: isBound(response),
      // RFC 6749 section 6: the old one stays when none came back.
      refreshToken: response.refresh_token === undefined ? before.refreshToken : new Secret(response.refresh_token),
    }
  }

  /** The work of one turn: everything is read anew, because the turn before may have changed it. */
  const refreshNow = async (
    id: string,
    downstream: DownstreamOf<'oauth_grant'>,
    wish: RefreshWish,
    giveUpAt: number,
    pause = FIRST_LOOK,
  ): Promise<FreshToken> => {
    const { scopes, goodEnough = isFresh, rejected, correlationId } = wish
    const grant = await grants.get(id)
    if (grant === undefined)
      throw refuse('revoked', { scope: 'the grant', revoked_at: new Date(clock.now()).toISOString() })
    const again = async (): Promise<FreshToken> => {
      if (performance.now() > giveUpAt)
        throw refuse('refresh_in_progress', { downstream: grant.downstream, seconds: 2 })
      await sleep(pause)
      return refreshNow(id, downstream, wish, giveUpAt, Math.min(pause * 2, LAST_LOOK))
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
    const from = grant.status === 'uncertain' ? 'uncertain' : 'active'
    const claimed = performance.now()
    const sending = await claim(
      grant,
      client.provider.refresh.rotates
        ? {
            status: from === 'active' ? 'uncertain' : 'retrying',
            problem: 'a refresh was sent and its answer is not known',
          }
        : {},
    )
    if (sending === undefined) return again()
    const until = claimed + CLAIM_MARGIN / 2
    let sent = await send(client, tokens, grant, downstream, scopes, until, proof)
    // Within its leeway the provider answers the token that we hold once more: a lost answer leaves no doubt.
    if (sent.event === 'lost' && performance.now() < Math.min(until, claimed + client.provider.refresh.leeway))
      sent = await send(client, tokens, grant, downstream, scopes, until, proof)
    const status = statusAfter(from, sent.event, client)
    if (sent.event === 'answered') return await keep(sending, tokens, sent.response, downstream, client, scopes)
    return await giveUp(sending, tokens, sent, status, client, correlationId)
  }

  const keep = async (
    grant: Grant,
    before: GrantTokens,
    response: openid.TokenEndpointResponse,
    downstream: DownstreamOf<'oauth_grant'>,
    client: ProviderClient,
    asked: readonly string[] | undefined,
  ): Promise<FreshToken> => {
    const after = await toTokens(client, before, response, { downstream, grant, asked })
    // A narrowed access token is not the grant's own: only the refresh token that came with it is kept.
    const stored =
      asked === undefined
        ? after
        : { ...before, refreshToken: after.refreshToken, refreshUntil: after.refreshUntil, fields: after.fields }
    let kept: Grant
    try {
      kept = await writeBack(grant, {
        status: 'active',
        problem: null,
        sealed: await sealTokens(envelope, grant, stored),
      })
    } catch (error) {
      if (error instanceof DeputyError && (error.code === 'conflict' || error.code === 'secret_unreadable')) {
        // Still there, so it was not revoked: whoever has claimed it since then answers for it.
        if (error.code === 'conflict' && (await grants.get(grant.id)) !== undefined)
          throw refuse('refresh_in_progress', { downstream: grant.downstream, seconds: 2 }, error)
        await endUnkept(client, after)
        throw refuse('revoked', { scope: 'the grant', revoked_at: new Date(clock.now()).toISOString() }, error)
      }
      throw error
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
      story: `${client.provider.name} answered the refresh with a new access token.`,
    }
  }

  /** Tokens that arrived for a grant that was revoked meanwhile must not live on at the provider. */
  const endUnkept = async (client: ProviderClient, tokens: GrantTokens): Promise<void> => {
    await revokeTokens(client, tokens).catch((error: unknown) => {
      deps.logger.warn({ err: error }, 'tokens of a revoked grant could not be ended at their provider')
    })
  }

  const giveUp = async (
    grant: Grant,
    tokens: GrantTokens,
    sent: { event: CallFailure; error: unknown; words: string; kept: z.output<typeof keptSchema> },
    status: GrantStatus,
    client: ProviderClient,
    correlationId: string,
  ): Promise<never> => {
    const { provider } = client.provider
    const { words } = sent
    // The answer may have brought a new refresh token although the rest of it cannot be used: it is the one that counts now.
    const sealed =
      sent.event === 'unverified' && sent.kept.refresh_token !== undefined
        ? await sealTokens(envelope, grant, { ...tokens, refreshToken: new Secret(sent.kept.refresh_token) })
        : grant.sealed
    const doubt = sealed === grant.sealed ? status : 'uncertain'
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
      detail: { provider, grant: grant.id, status: doubt, story: `${client.provider.name}: ${words}` },
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
  return async (grant: Grant, downstream: DownstreamOf<'oauth_grant'>, wish: RefreshWish): Promise<FreshToken> => {
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
}

/** Somebody is at it, or was and has not said how it went. */
export const isRefreshing = ({ refreshing }: Grant, now: number): boolean =>
  refreshing !== undefined && refreshing.until > now

/** Nothing more can be had from the grant: the provider said so, or the one retry was sent and its answer never came. */
export const isEnded = ({ status }: Grant): boolean => status === 'reconnect_required' || status === 'retrying'

const keptFrom = (text: string): z.output<typeof keptSchema> => {
  try {
    return keptSchema.safeParse(JSON.parse(text)).data ?? {}
  } catch {
    return {}
  }
}

/** Whether an access token outlasts the call that it is for: more than 30 seconds, or a tenth of its life, are left. */
export const isFresh = (
  { accessObtainedAt, accessExpiresAt }: Pick<GrantTokens, 'accessObtainedAt' | 'accessExpiresAt'>,
  now: number,
): boolean => accessExpiresAt - now > Math.min(30_000, (accessExpiresAt - accessObtainedAt) / 10)

const keyOf = ({ bound, proofKey }: GrantTokens): ProofKey | undefined => (bound === true ? proofKey : undefined)

export const fromGrant = (grant: Grant, tokens: GrantTokens, story: string): FreshToken => ({
  grant,
  accessToken: tokens.accessToken,
  scopes: tokens.accessScopes ?? grant.scopes,
  obtainedAt: tokens.accessObtainedAt,
  expiresAt: tokens.accessExpiresAt,
  fields: tokens.fields ?? {},
  proofKey: keyOf(tokens),
  story,
})
