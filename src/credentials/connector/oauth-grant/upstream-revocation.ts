import { z } from 'zod'
import type { Clock, Random } from '#clock'
import { type CurrentSnapshot, type DownstreamOf, revocationEnds } from '#config'
import { type CallProvider, type EndingTokens, type ProviderClients, revokeTokens } from '#credentials/provider'
import { DeputyError } from '#errors'
import { type Envelope, openProofKey, proofKeyText, randomText, Secret } from '#foundation/crypto'
import type { Grant, GrantStore, UpstreamRevocation, UpstreamRevocationStore } from '#foundation/store'
import type { Logger, Telemetry } from '#foundation/telemetry'
import type { Revocable, RevocationOrder, UpstreamOutcome } from '../connector.ts'
import { openTokens } from './grant.ts'
import { isEnded } from './what-ends.ts'

/** Attempts after which a revocation counts as impossible and is listed as `irrevocable`: over about a day. */
const ATTEMPTS = 12
const FIRST_PAUSE = 30_000
const LONGEST_PAUSE = 14_400_000
/** How often it is looked whether other grants are still in use that would end with one (ms). */
const SHARED_PAUSE = 600_000
/** Entries that are looked at in one go, and of each provider at most so many: a provider that hangs does not keep the others waiting. */
const AT_ONCE = 500
const OF_ONE_PROVIDER = 50

interface Order {
  readonly tokens: EndingTokens
  readonly downstream: string
}

/** Whose grant is to end where. */
type Owner = Pick<Grant, 'id' | 'tenant' | 'provider'> & { readonly user: string | undefined }

/** An order as it waits, sealed. Those of before the tokens had names are the refresh token, if there is one, and the access token. */
const waitingSchema = z.strictObject({
  tokens: z.union([
    z.strictObject({
      refresh_token: z.string().optional(),
      access_token: z.string(),
      proof_key: z.string().optional(),
    }),
    z
      .array(z.string())
      .min(1)
      .transform((tokens) => ({
        refresh_token: tokens.length > 1 ? tokens[0] : undefined,
        access_token: tokens.at(-1)!,
        proof_key: undefined,
      })),
  ]),
  downstream: z.string(),
  /** Whose grant it was; entries of earlier versions do not say. */
  user: z.string().optional(),
})

const nameOf = ({ tenant, id }: Pick<UpstreamRevocation, 'tenant' | 'id'>) => ({
  tenant,
  kind: 'upstream-revocation',
  id,
})

/** Ends grants at their providers, each in its way: at once, and what fails again and again with growing pauses, across restarts. */
export const createUpstreamRevocation = (deps: {
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
}) => {
  const attempt = async ({ tokens, downstream: id }: Order, tenant: string): Promise<'done' | 'not_offered'> => {
    const downstream = deps.snapshot().downstreams.get(id)
    if (downstream?.credential !== 'oauth_grant') return 'not_offered'
    const client = await deps.clients(downstream satisfies DownstreamOf<'oauth_grant'>, tenant)
    return revokeTokens(client, tokens, (request) =>
      deps.call({ provider: client.provider.provider, tenant, operation: 'revoke' }, request),
    )
  }

  /** A row that this installation has not sealed is no grant that is in use: it delays no ending. */
  const isForged = (grant: Grant): Promise<boolean> =>
    openTokens(deps.envelope, grant).then(
      () => false,
      (error: unknown) => error instanceof DeputyError && error.code === 'secret_unreadable',
    )

  const sharedWith = async ({ id, tenant, provider, user }: Owner): Promise<readonly string[]> => {
    const facts = deps.snapshot().providers.get(provider)
    if (user === undefined || facts === undefined || revocationEnds(facts) === 'token') return []
    const others = await deps.grants.list({ tenant, user, provider })
    const sharers: string[] = []
    for (const each of others)
      if (each.id !== id && !isEnded(each) && !deps.isVoid(each) && !(await isForged(each))) sharers.push(each.id)
    return sharers
  }

  const pauseBefore = (attempts: number): number => {
    const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempts)
    const [jitter] = deps.random.bytes(1) as unknown as [number]
    return Math.round(longest * (0.5 + jitter / 510))
  }

  const orderOf = async (grant: Grant): Promise<Order> => {
    const { refreshToken, accessToken, proofKey } = await openTokens(deps.envelope, grant)
    return { tokens: { refreshToken, accessToken, proofKey }, downstream: grant.downstream }
  }

  const enqueue = async (grant: Grant): Promise<RevocationOrder> => {
    const order = await orderOf(grant)
    const { refreshToken, accessToken, proofKey } = order.tokens
    const id = randomText(deps.random, 12)
    const plaintext = new Secret(
      JSON.stringify({
        tokens: {
          refresh_token: refreshToken?.reveal(),
          access_token: accessToken.reveal(),
          proof_key: proofKey === undefined ? undefined : proofKeyText(proofKey).reveal(),
        },
        downstream: order.downstream,
        user: grant.user,
      } satisfies z.input<typeof waitingSchema>),
    )
    const nextAt = deps.clock.now() + pauseBefore(0)
    await deps.upstreamRevocations.put({
      id,
      grant: grant.id,
      tenant: grant.tenant,
      provider: grant.provider,
      attempts: 1,
      nextAt,
      state: 'queued',
      problem: 'the provider was not told yet',
      sealed: await deps.envelope.seal(nameOf({ tenant: grant.tenant, id }), plaintext),
    })
    return { id, nextAt }
  }

  const retry = async (entry: UpstreamRevocation): Promise<void> => {
    const attempts = entry.attempts + 1
    const nextAt = deps.clock.now() + pauseBefore(attempts)
    // Another node may have been faster.
    if (!(await deps.upstreamRevocations.claim(entry, nextAt))) return
    try {
      const { tokens, downstream, user } = waitingSchema.parse(
        JSON.parse((await deps.envelope.open(nameOf(entry), entry.sealed)).reveal()),
      )
      const sharers = await sharedWith({ ...entry, id: entry.grant, user })
      if (sharers.length > 0) {
        // That is no attempt: it waits for as long as they are in use.
        await deps.upstreamRevocations.put({
          ...entry,
          nextAt: deps.clock.now() + SHARED_PAUSE,
          problem: `other grants of the user would end with it: ${sharers.join(', ')}`,
        })
        return
      }
      const outcome = await attempt(
        {
          tokens: {
            refreshToken: tokens.refresh_token === undefined ? undefined : new Secret(tokens.refresh_token),
            accessToken: new Secret(tokens.access_token),
            proofKey: tokens.proof_key === undefined ? undefined : await openProofKey(new Secret(tokens.proof_key)),
          },
          downstream,
        },
        entry.tenant,
      )
      await deps.upstreamRevocations.remove(entry.id)
      deps.telemetry.upstreamRevocation({ provider: entry.provider, outcome })
    } catch (error) {
      const state = attempts >= ATTEMPTS ? 'irrevocable' : 'queued'
      await deps.upstreamRevocations.put({
        ...entry,
        attempts,
        state,
        nextAt,
        problem: (error as Error).message.slice(0, 200),
      })
      deps.telemetry.upstreamRevocation({ provider: entry.provider, outcome: state })
      if (state === 'irrevocable')
        deps.logger.error(
          { grant: entry.grant, provider: entry.provider },
          'a provider could not be told of a revocation: end the grant there by hand',
        )
    }
  }

  return {
    sharedWith,
    async prepare(grants: readonly Grant[]): Promise<Map<string, RevocationOrder>> {
      const orders = new Map<string, RevocationOrder>()
      for (const grant of grants) {
        try {
          orders.set(grant.id, await enqueue(grant))
        } catch (error) {
          // A grant that cannot be read must not keep the rest from being revoked.
          deps.logger.warn({ err: error, grant: grant.id }, 'a grant could not be read: its provider is not told')
        }
      }
      return orders
    },
    async revoke(grant: Grant, order?: RevocationOrder): Promise<UpstreamOutcome> {
      try {
        // Without an order it is now or never: the key of the tenant, and all that it has, is about to go.
        if (order !== undefined && (await sharedWith(grant)).length > 0) return 'waiting'
        const outcome = await attempt(await orderOf(grant), grant.tenant)
        if (order !== undefined) await deps.upstreamRevocations.remove(order.id)
        deps.telemetry.upstreamRevocation({ provider: grant.provider, outcome })
        return outcome
      } catch (error) {
        deps.logger.warn(
          { err: error, grant: grant.id },
          'the provider was not told of a revocation at the first attempt',
        )
        if (order !== undefined) deps.telemetry.upstreamRevocation({ provider: grant.provider, outcome: 'queued' })
        return order === undefined ? 'failed' : 'queued'
      }
    },
    async drain(): Promise<void> {
      const queues = Map.groupBy(
        await deps.upstreamRevocations.due(deps.clock.now(), AT_ONCE),
        ({ provider }) => provider,
      )
      await Promise.all(
        [...queues.values()].map(async (queue) => {
          for (const entry of queue.slice(0, OF_ONE_PROVIDER)) await retry(entry)
        }),
      )
    },
  }
}

/**
 * Ends what is sealed in a grant that is not kept, by an order that is durable first: not before the last other grant
 * of the user is
 * over that would end with it.
 * @returns false where no order could be written, because the key of the tenant is gone
 */
export const endSealed = async (upstream: Pick<Revocable, 'prepare' | 'revoke'>, grant: Grant): Promise<boolean> => {
  const order = (await upstream.prepare([grant])).get(grant.id)
  if (order === undefined) return false
  await upstream.revoke(grant, order)
  return true
}
