import type { Revocable, RevocationOrder, UpstreamOutcome } from '#credentials/connector'
import type { Grant } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { GrantReceipt } from './receipt.ts'

/** Providers that are notified at the same time. */
const AT_ONCE = 8

type Notified = Pick<GrantReceipt, 'upstream' | 'nextTry' | 'sharedWith'>

interface Notifier {
  readonly upstream: Pick<Revocable, 'revoke' | 'sharedWith'>
  readonly logger: Logger
}

/** Ends grants at their providers, or leaves their orders to the queue. */
export const notifyProviders = async (
  notifier: Notifier,
  grants: readonly Grant[],
  orders: ReadonlyMap<string, RevocationOrder>,
): Promise<GrantReceipt[]> => {
  const receipts: GrantReceipt[] = []
  for (let at = 0; at < grants.length; at += AT_ONCE) {
    const some = grants.slice(at, at + AT_ONCE)
    receipts.push(
      ...(await Promise.all(
        some.map(async (grant) => ({
          ...namesOf(grant),
          ...(await notifyProvider(notifier, grant, orders.get(grant.id))),
        })),
      )),
    )
  }
  return receipts
}

/** What a revocation would do to the provider's side of each grant. */
export const previewProviders = ({ upstream }: Notifier, grants: readonly Grant[]): Promise<GrantReceipt[]> => {
  const covered = new Set(grants.map(({ id }) => id))
  return Promise.all(
    grants.map(async (grant) => {
      const sharedWith = (await upstream.sharedWith(grant)).filter((id) => !covered.has(id))
      return sharedWith.length === 0
        ? { ...namesOf(grant), upstream: 'queued' as const }
        : { ...namesOf(grant), upstream: 'waiting' as const, sharedWith }
    }),
  )
}

const notifyProvider = async (
  { upstream: providers, logger }: Notifier,
  grant: Grant,
  order: RevocationOrder | undefined,
): Promise<Notified> => {
  const upstream = await providers.revoke(grant, order).catch((error: unknown): UpstreamOutcome => {
    logger.warn({ err: error, grant: grant.id }, 'the revocation of a grant at its provider failed')
    return order === undefined ? 'failed' : 'queued'
  })
  if (upstream === 'waiting') return { upstream, sharedWith: await providers.sharedWith(grant) }
  return upstream === 'queued' && order !== undefined ? { upstream, nextTry: order.nextAt } : { upstream }
}

const namesOf = ({ id, tenant, user, server, downstream }: Grant) => ({ grant: id, tenant, user, server, downstream })
