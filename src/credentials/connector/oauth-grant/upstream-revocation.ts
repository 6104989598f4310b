import type { Clock, Random } from '#clock'
import { type CurrentSnapshot, type DownstreamOf, revocationEnds } from '#config'
import { type CallProvider, type ProviderClients, revokeTokens } from '#credentials/provider'
import { DeputyError } from '#errors'
import { type Envelope, randomText } from '#foundation/crypto'
import type { Grant, GrantStore, UpstreamRevocation, UpstreamRevocationStore } from '#foundation/store'
import type { Logger, Telemetry } from '#foundation/telemetry'
import type { Revocable, RevocationOrder, UpstreamOutcome } from '../connector.ts'
import { openTokens } from './grant.ts'
import { openOrder, sealOrder, type UpstreamOrder } from './upstream-order.ts'
import { isEnded } from './what-ends.ts'

/** Attempts after which a revocation counts as impossible and is listed as `irrevocable`: over about a day. */
const MAX_ATTEMPTS = 12
const FIRST_PAUSE_MS = 30_000
const MAX_PAUSE_MS = 14_400_000
/** How often an order looks whether other grants are in use that would end with its own (ms). */
const SHARED_PAUSE_MS = 600_000
/** Orders of one round, and of each provider in a round: a provider that hangs does not delay the others. */
const MAX_PER_ROUND = 500
const MAX_PER_PROVIDER = 50

/** The grant that is to end, and where. */
type Owner = Pick<Grant, 'id' | 'tenant' | 'provider'> & { readonly user: string | undefined }

export interface UpstreamRevocationDependencies {
  readonly snapshot: CurrentSnapshot
  readonly upstreamRevocations: UpstreamRevocationStore
  readonly grants: Pick<GrantStore, 'list'>
  readonly envelope: Envelope
  readonly clients: ProviderClients
  readonly call: CallProvider
  readonly clock: Clock
  readonly random: Random
  /** Whether a revocation covers a grant. */
  readonly isVoid: (grant: Grant) => boolean
  readonly telemetry: Telemetry
  readonly logger: Logger
}

/** Ends grants at their providers, each in its way: at once, and after a failure again with growing pauses, across restarts. */
export class UpstreamRevocations implements Revocable {
  readonly #deps: UpstreamRevocationDependencies

  constructor(deps: UpstreamRevocationDependencies) {
    this.#deps = deps
  }

  /** Ids of grants in use that would end at the provider with this one. */
  async sharedWith({ id, tenant, provider, user }: Owner): Promise<readonly string[]> {
    const { snapshot, grants, isVoid } = this.#deps
    const facts = snapshot().providers.get(provider)
    if (user === undefined || facts === undefined || revocationEnds(facts) === 'token') return []
    const sharers: string[] = []
    for (const each of await grants.list({ tenant, user, provider }))
      if (each.id !== id && !isEnded(each) && !isVoid(each) && !(await this.#isForged(each))) sharers.push(each.id)
    return sharers
  }

  /** Writes an order for each grant that can be read. */
  async prepare(grants: readonly Grant[]): Promise<Map<string, RevocationOrder>> {
    const orders = new Map<string, RevocationOrder>()
    for (const grant of grants) {
      try {
        orders.set(grant.id, await this.#enqueue(grant))
      } catch (error) {
        // A grant that cannot be read must not keep the rest from being revoked.
        this.#deps.logger.warn(
          { err: error, grant: grant.id },
          'a grant could not be read; its provider is not notified of the revocation',
        )
      }
    }
    return orders
  }

  async revoke(grant: Grant, order?: RevocationOrder): Promise<UpstreamOutcome> {
    const { upstreamRevocations, telemetry, logger } = this.#deps
    const { provider } = grant
    try {
      // Without an order this is the only attempt: the key of the tenant, and all that it seals, is about to be destroyed.
      if (order !== undefined && (await this.sharedWith(grant)).length > 0) return 'waiting'
      const outcome = await this.#attempt(await this.#orderOf(grant), grant.tenant)
      if (order !== undefined) await upstreamRevocations.remove(order.id)
      telemetry.upstreamRevocation({ provider, outcome })
      return outcome
    } catch (error) {
      logger.warn({ err: error, grant: grant.id }, 'the first notice of a revocation to the provider failed')
      if (order !== undefined) telemetry.upstreamRevocation({ provider, outcome: 'queued' })
      return order === undefined ? 'failed' : 'queued'
    }
  }

  /** Carries out the orders that are due. */
  async drain(): Promise<void> {
    const { upstreamRevocations, clock } = this.#deps
    const due = await upstreamRevocations.due(clock.now(), MAX_PER_ROUND)
    const queues = Map.groupBy(due, ({ provider }) => provider)
    await Promise.all(
      [...queues.values()].map(async (queue) => {
        for (const entry of queue.slice(0, MAX_PER_PROVIDER)) await this.#retry(entry)
      }),
    )
  }

  async #attempt({ tokens, downstream: id }: UpstreamOrder, tenant: string): Promise<'done' | 'not_offered'> {
    const { snapshot, clients, call } = this.#deps
    const downstream = snapshot().downstreams.get(id)
    if (downstream?.credential !== 'oauth_grant') return 'not_offered'
    const client = await clients(downstream satisfies DownstreamOf<'oauth_grant'>, tenant)
    return revokeTokens(client, tokens, (request) =>
      call({ provider: client.provider.provider, tenant, operation: 'revoke' }, request),
    )
  }

  async #orderOf(grant: Grant): Promise<UpstreamOrder> {
    const { refreshToken, accessToken, proofKey } = await openTokens(this.#deps.envelope, grant)
    return { tokens: { refreshToken, accessToken, proofKey }, downstream: grant.downstream, user: grant.user }
  }

  async #enqueue(grant: Grant): Promise<RevocationOrder> {
    const { envelope, upstreamRevocations, clock, random } = this.#deps
    const order = await this.#orderOf(grant)
    const id = randomText(random, 12)
    const { tenant, provider } = grant
    const nextAt = clock.now() + this.#pauseBefore(0)
    await upstreamRevocations.put({
      id,
      grant: grant.id,
      tenant,
      provider,
      attempts: 1,
      nextAt,
      state: 'queued',
      problem: 'the provider was not notified yet',
      sealed: await sealOrder(envelope, { tenant, id }, order),
    })
    return { id, nextAt }
  }

  async #retry(entry: UpstreamRevocation): Promise<void> {
    const { upstreamRevocations, envelope, clock, telemetry } = this.#deps
    const attempts = entry.attempts + 1
    const nextAt = clock.now() + this.#pauseBefore(attempts)
    // Another node may have taken the order.
    if (!(await upstreamRevocations.claim(entry, nextAt))) return
    try {
      const order = await openOrder(envelope, entry)
      const sharers = await this.sharedWith({ ...entry, id: entry.grant, user: order.user })
      if (sharers.length > 0) {
        // This is no attempt: the order waits for as long as the other grants are in use.
        const problem = `other grants of the user would end with it: ${sharers.join(', ')}`
        await upstreamRevocations.put({ ...entry, nextAt: clock.now() + SHARED_PAUSE_MS, problem })
        return
      }
      const outcome = await this.#attempt(order, entry.tenant)
      await upstreamRevocations.remove(entry.id)
      telemetry.upstreamRevocation({ provider: entry.provider, outcome })
    } catch (error) {
      await this.#retryFailed({ ...entry, attempts, nextAt }, error as Error)
    }
  }

  async #retryFailed(entry: UpstreamRevocation, error: Error): Promise<void> {
    const { upstreamRevocations, telemetry, logger } = this.#deps
    const { grant, provider } = entry
    const state = entry.attempts >= MAX_ATTEMPTS ? 'irrevocable' : 'queued'
    await upstreamRevocations.put({ ...entry, state, problem: error.message.slice(0, 200) })
    telemetry.upstreamRevocation({ provider, outcome: state })
    if (state === 'irrevocable')
      logger.error(
        { grant, provider },
        'a grant was not ended at its provider after the last attempt: end it there by hand',
      )
  }

  /** A row that this installation has not sealed is no grant in use: it delays no revocation. */
  #isForged(grant: Grant): Promise<boolean> {
    return openTokens(this.#deps.envelope, grant).then(
      () => false,
      (error: unknown) => error instanceof DeputyError && error.code === 'secret_unreadable',
    )
  }

  /** ms, with jitter. */
  #pauseBefore(attempts: number): number {
    const longest = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempts)
    const [jitter] = this.#deps.random.bytes(1) as unknown as [number]
    return Math.round(longest * (0.5 + jitter / 510))
  }
}

/**
 * Ends the tokens that are sealed in a grant that is not stored, by an order that is durable first: not before the last other
 * grant of the user has ended that would end with it.
 * @returns false where no order could be written, because the key of the tenant is gone
 */
export const endSealed = async (upstream: Pick<Revocable, 'prepare' | 'revoke'>, grant: Grant): Promise<boolean> => {
  const order = (await upstream.prepare([grant])).get(grant.id)
  if (order === undefined) return false
  await upstream.revoke(grant, order)
  return true
}
