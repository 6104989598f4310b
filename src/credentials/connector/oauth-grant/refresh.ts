import { setTimeout as sleep } from 'node:timers/promises'
import type { DownstreamOf } from '#config'
import type { CallProvider, ProviderClient, ProviderClients } from '#credentials/provider'
import { DeputyError, refuse } from '#errors'
import { within } from '#foundation/async'
import type { Secret } from '#foundation/crypto'
import type { Grant } from '#foundation/store'
import { type FreshToken, fromGrant, isFresh, isRefreshing } from './fresh-token.ts'
import { isBoundAsWanted, openTokens, sealTokens, type GrantTokens } from './grant.ts'
import { RefreshOutcome, type RefreshOutcomeDependencies } from './refresh-outcome.ts'
import { sendRefresh } from './send-refresh.ts'
import type { InTurn } from './turns.ts'
import { certaintyOf, isEnded, pauseInDoubt, whatBecomes } from './what-ends.ts'

/** How long a caller waits for a refresh, its own or another's (ms). The refresh continues when the caller stops waiting. */
const PATIENCE_MS = 15_000
/** At the end of the process the refreshes under way have so long, and then the writes that wait for the store (ms). */
const FAREWELL_MS = 3000
/** How much longer than the provider may take a claim lasts (ms): for the writes around the call, and clocks that differ. */
const CLAIM_MARGIN_MS = 3000
/** The first and the longest pause between two looks at a grant that another node refreshes (ms). */
const [FIRST_LOOK_INTERVAL_MS, MAX_LOOK_INTERVAL_MS] = [10, 250]

export interface RefreshRequest {
  /** Narrows the access token to these scopes (RFC 6749 section 6). */
  readonly scopes?: readonly string[]
  /** Whether the grant's access token needs no refresh; default: it outlasts a call. */
  readonly goodEnough?: (tokens: GrantTokens, now: number) => boolean
  /** The access token that the service refused: while the grant has no other, a refresh is needed. */
  readonly rejected?: Secret
  /** Of the request that caused the refresh; its audit record has the provider's answer. */
  readonly correlationId: string
}

export interface RefreshDependencies extends RefreshOutcomeDependencies {
  readonly clients: ProviderClients
  readonly call: CallProvider
  /** Name of this process among those that share the store. */
  readonly owner: string
  /** Whether other processes share the store, and may have claimed a grant. */
  readonly shared: boolean
  /** How long a provider may take to answer (ms). */
  readonly timeout: number
  readonly inTurn: InTurn
}

/** Obtains fresh access tokens of grants. */
export interface Refresher {
  /**
   * A fresh access token of the grant.
   * @throws DeputyError `refresh_in_progress` when it takes too long, and of the categories grant and provider
   */
  refresh(grant: Grant, downstream: DownstreamOf<'oauth_grant'>, request: RefreshRequest): Promise<FreshToken>
  /** Waits for the refreshes under way, and then writes the answers of providers that only this process has. */
  close(): Promise<void>
}

/**
 * One refresh of a grant at a time (promise 6). In a process equal requests share it, and others wait their turn. Over all
 * nodes the grant itself names the node that refreshes it: the claim is a write that names the version it read, and so is
 * every write after it, so that a late writer has no version to write to (fencing).
 */
export const createRefresh = (deps: RefreshDependencies): Refresher => new GrantRefresher(deps)

/** A request in its turn, with the client that it uses. */
interface Turn {
  readonly id: string
  readonly downstream: DownstreamOf<'oauth_grant'>
  readonly request: RefreshRequest
  /** When the turn stops waiting for another node (`performance.now()`). */
  readonly deadline: number
}

/** A grant as it was read in a turn. */
interface Reading extends Turn {
  readonly grant: Grant
  readonly client: ProviderClient
  readonly tokens: GrantTokens
  readonly proof: Awaited<ReturnType<ProviderClient['proof']>>
}

class GrantRefresher implements Refresher {
  readonly #deps: RefreshDependencies
  readonly #outcome: RefreshOutcome
  readonly #shared = new Map<string, Promise<FreshToken>>()

  constructor(deps: RefreshDependencies) {
    this.#deps = deps
    this.#outcome = new RefreshOutcome(deps)
  }

  async refresh({ id }: Grant, downstream: DownstreamOf<'oauth_grant'>, request: RefreshRequest): Promise<FreshToken> {
    const key = `${id} ${request.rejected === undefined ? '' : 'anew'} ${request.scopes?.join(' ') ?? ''}`
    let work = this.#shared.get(key)
    if (work === undefined) {
      const turn = { id, downstream, request, deadline: performance.now() + PATIENCE_MS }
      work = this.#deps
        .inTurn(id, () => this.#takeTurn(turn))
        .finally(() => {
          this.#shared.delete(key)
        })
      this.#shared.set(key, work)
    } else this.#deps.telemetry.refresh({ provider: downstream.provider, outcome: 'joined' })
    return await within(PATIENCE_MS, work, () => inProgress(downstream.downstream))
  }

  async close(): Promise<void> {
    const soon = (work: Promise<unknown>): Promise<unknown> =>
      within(FAREWELL_MS, work, () => new Error('late')).catch(() => undefined)
    await soon(Promise.allSettled(this.#shared.values()))
    await soon(this.#outcome.pending.close())
  }

  /** Tries until no other node has claimed the grant, and the claim of this one stands. */
  async #takeTurn(turn: Turn): Promise<FreshToken> {
    for (let pause = FIRST_LOOK_INTERVAL_MS; ; pause = Math.min(pause * 2, MAX_LOOK_INTERVAL_MS)) {
      const grant = await this.#read(turn.id)
      const fresh = this.#isClaimedElsewhere(grant) ? undefined : await this.#refreshNow(turn, grant)
      if (fresh !== undefined) return fresh
      if (performance.now() > turn.deadline) throw inProgress(grant.downstream)
      await sleep(pause)
    }
  }

  /** Everything is read anew in each turn, because the turn before may have changed it. */
  async #read(id: string): Promise<Grant> {
    // A provider's answer that is not written yet comes before another request to it.
    await this.#outcome.pending.settle(id)
    const grant = await this.#deps.grants.get(id)
    if (grant === undefined)
      throw refuse('revoked', { scope: 'the grant', revoked_at: new Date(this.#deps.clock.now()).toISOString() })
    return grant
  }

  #isClaimedElsewhere(grant: Grant): boolean {
    const { shared, owner, clock } = this.#deps
    return shared && grant.refreshing?.owner !== owner && isRefreshing(grant, clock.now())
  }

  /** @returns undefined where another node has written the grant since it was read */
  async #refreshNow(turn: Turn, grant: Grant): Promise<FreshToken | undefined> {
    const reading = await this.#open(turn, grant)
    const { client, tokens } = reading
    if (this.#needsNoRefresh(reading)) return fromGrant(grant, tokens, 'The access token was refreshed a moment ago.')
    assertRefreshable(grant, client, tokens)
    if (this.#isPausedInDoubt(reading))
      return fromGrant(grant, tokens, 'The access token is still good; the answer to its last refresh is not known.')
    return this.#send(reading)
  }

  async #open(turn: Turn, grant: Grant): Promise<Reading> {
    const { clients, envelope, clock } = this.#deps
    const client = await clients(turn.downstream, grant.tenant)
    const stored = await openTokens(envelope, grant)
    const proof = await client.proof(stored.proofKey)
    // The provider's answer may be bound to the key that is proved now, even where the stored token is not bound.
    const proved = proof === undefined ? stored : { ...stored, proofKey: proof.key }
    const tokens = turn.request.rejected === undefined ? proved : { ...proved, forcedAt: clock.now() }
    return { ...turn, grant, client, tokens, proof }
  }

  /** Whether the turn before has brought the token that this request needs. */
  #needsNoRefresh({ grant, client, tokens, downstream, request }: Reading): boolean {
    const { scopes, goodEnough = isFresh, rejected } = request
    return (
      scopes === undefined &&
      goodEnough(tokens, this.#deps.clock.now()) &&
      rejected?.reveal() !== tokens.accessToken.reveal() &&
      isBoundAsWanted(tokens, downstream, client.provider) &&
      grant.status === 'active'
    )
  }

  /**
   * Whether a grant in doubt waits before its next try, and its access token serves meanwhile.
   * @throws DeputyError `provider_unavailable` where it waits and no token serves
   */
  #isPausedInDoubt({ grant, client, tokens, request }: Reading): boolean {
    const now = this.#deps.clock.now()
    if (certaintyOf(grant) === 'sure' || !client.provider.refresh.rotates) return false
    const wait = grant.updatedAt + pauseInDoubt(tokens.doubts ?? 0) - now
    if (wait <= 0) return false
    if (request.scopes === undefined && request.rejected === undefined && isFresh(tokens, now)) return true
    throw refuse('provider_unavailable', {
      provider: client.provider.provider,
      problem: grant.problem ?? 'its answer did not arrive',
      seconds: Math.ceil(wait / 1000),
    })
  }

  /** Claims the grant, sends its refresh token, and writes the outcome. @returns undefined where the claim did not stand */
  async #send(reading: Reading): Promise<FreshToken | undefined> {
    const { grant, client, tokens, downstream, proof, request } = reading
    const { scopes, correlationId } = request
    const { rotates, leeway } = client.provider.refresh
    const claimedAt = performance.now()
    const claimed = await this.#claim(reading)
    if (claimed === undefined) return undefined
    const before = claimedAt + CLAIM_MARGIN_MS / 2
    const send = () => sendRefresh(this.#deps, { client, tokens, grant, downstream, scopes, before, proof })
    let result = await send()
    // Within its leeway the provider accepts the refresh token once more: a lost answer leaves no doubt.
    if (result.event === 'lost' && performance.now() < Math.min(before, claimedAt + leeway)) result = await send()
    const sent = { grant: claimed, tokens, downstream, client, scopes, correlationId }
    if (result.event === 'answered') return this.#outcome.succeeded(sent, result.response)
    return this.#outcome.failed(sent, result, whatBecomes(certaintyOf(grant), result.event, { rotates }))
  }

  /** @returns undefined where another node has written the grant since it was read */
  async #claim({ grant, client, tokens }: Reading): Promise<Grant | undefined> {
    const { grants, envelope, clock, shared, owner, timeout } = this.#deps
    const { rotates } = client.provider.refresh
    // In a store of one process its turns are enough, and a provider that does not rotate leaves no doubt to record.
    if (!shared && !rotates) return grant
    // The try is counted before it is sent: a process that dies has tried as well.
    const isRetry = rotates && certaintyOf(grant) === 'doubtful'
    const sealed = isRetry
      ? await sealTokens(envelope, grant, { ...tokens, doubts: (tokens.doubts ?? 0) + 1 })
      : grant.sealed
    const doubt: Partial<Grant> = rotates
      ? { status: 'uncertain', problem: 'a refresh was sent and its answer is not known' }
      : {}
    const now = clock.now()
    try {
      return await grants.update({
        ...grant,
        ...doubt,
        sealed,
        updatedAt: now,
        refreshing: { owner, until: now + timeout + CLAIM_MARGIN_MS },
      })
    } catch (error) {
      if (error instanceof DeputyError && error.code === 'conflict') return undefined
      throw error
    }
  }
}

const inProgress = (downstream: string): DeputyError => refuse('refresh_in_progress', { downstream, seconds: 2 })

/** @throws DeputyError `reconnect_required` */
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
