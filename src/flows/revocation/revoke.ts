import type { Clock, Random } from '#clock'
import type { CurrentSnapshot } from '#config'
import type { Revocable, RevocationOrder, UpstreamOutcome } from '#credentials/connector'
import type { LeaseReceipt, Leases } from '#credentials/secret'
import type { AuditLog, AuditRecord } from '#foundation/audit'
import type { Confirmation, Membership } from '#foundation/cluster'
import { type Envelope, randomText } from '#foundation/crypto'
import type { Grant, GrantFilter, Revocation, RevocationScope, Store } from '#foundation/store'
import type { Logger, Telemetry } from '#foundation/telemetry'
import { describeScope, kindOf, type RevocationIndex } from '#identity/validity'

/** What happened to one grant. */
export interface GrantReceipt {
  readonly grant: string
  readonly tenant: string
  readonly user: string
  readonly server: string
  readonly downstream: string
  readonly upstream: UpstreamOutcome
  /** Of what is queued: when the provider is told next (ms since the epoch). */
  readonly nextTry?: number
  /** Grants in use that would end at the provider with this one: the provider is told when they are over. */
  readonly sharedWith?: readonly string[]
}

/** What a revocation covered. */
export interface RevocationReceipt {
  readonly id: string
  readonly scope: RevocationScope
  readonly epoch: number
  /** True: nothing was done, this is what it would cover. */
  readonly dryRun: boolean
  readonly grants: readonly GrantReceipt[]
  readonly leases: readonly LeaseReceipt[]
  readonly cached: number
  readonly consents: number
  readonly sessions: number
  /** Sign-ins at MCP clients. */
  readonly clientSessions: number
  readonly keyDestroyed: boolean
  /** The other nodes that had to know. */
  readonly nodes: Confirmation
}

export interface Revoker {
  /**
   * Ends everything that the scope covers. When it resolves nothing that was given before can be handed out again.
   * @throws DeputyError `store_unavailable`, `audit_unavailable`: the revocation may then stand already; repeat it
   */
  revoke(order: {
    scope: RevocationScope
    by: string
    reason?: string
    correlationId: string
    /** Of a token: when it ends (ms since the epoch). Undefined: not known, and its revocation is kept for good. */
    tokenExpiresAt?: number
  }): Promise<RevocationReceipt>
  preview(scope: RevocationScope): Promise<RevocationReceipt>
}

/** Waits for all, also where one fails: nothing of a revocation goes on after its answer. */
const allOf = async <T extends readonly Promise<unknown>[]>(work: readonly [...T]) => {
  await Promise.allSettled(work)
  return Promise.all(work)
}

/** How many providers are told at once, and how long an admin waits for them before the rest is left to the queue (ms). */
const UPSTREAM_AT_ONCE = 8

/**
 * The line of a revocation: recorded durably, in force in memory, caches emptied, grants and consents removed,
 * providers told, receipt in the audit log. Order matters: from the second step on no request can be answered with
 * what is covered, because the exchange asks `RevocationIndex` last of all.
 */
export const createRevoker = (options: {
  store: Store
  revocationIndex: RevocationIndex
  envelope: Envelope
  /** Empties the caches of what has been revoked; returns how many entries went. */
  purge: () => number
  upstream: Revocable
  leases: Pick<Leases, 'end' | 'list'>
  audit: AuditLog
  telemetry: Telemetry
  logger: Logger
  clock: Clock
  random: Random
  membership: Pick<Membership, 'epoch' | 'record' | 'confirm'>
  snapshot: CurrentSnapshot
  /** How long the revocation of a grant is kept (ms): longer than anything lives that was obtained from it. */
  grantMemory: number
}): Revoker => {
  const { store, revocationIndex, audit, clock } = options
  const newId = (): string => randomText(options.random, 12)

  /**
   * No earlier than anything that was handed out, as the audit log has it, and than any revocation: the clock may have
   * been ahead then, and be right now.
   */
  const nextEpoch = async (): Promise<number> => {
    const [epoch, [last]] = await Promise.all([
      options.membership.epoch(),
      store.audit.query({ node: '*' }, { limit: 1, last: true }),
    ])
    return Math.max(epoch, last?.at ?? 0, revocationIndex.epoch)
  }

  const tellProvider = async (
    grant: Grant,
    order: RevocationOrder | undefined,
  ): Promise<Pick<GrantReceipt, 'upstream' | 'nextTry' | 'sharedWith'>> => {
    const upstream = await options.upstream.revoke(grant, order).catch((error: unknown): UpstreamOutcome => {
      options.logger.warn({ err: error, grant: grant.id }, 'the revocation of a grant at its provider failed')
      return order === undefined ? 'failed' : 'queued'
    })
    if (upstream === 'waiting') return { upstream, sharedWith: await options.upstream.sharedWith(grant) }
    return upstream === 'queued' && order !== undefined ? { upstream, nextTry: order.nextAt } : { upstream }
  }

  const tellProviders = async (
    grants: readonly Grant[],
    orders: ReadonlyMap<string, RevocationOrder>,
  ): Promise<GrantReceipt[]> => {
    const receipts: GrantReceipt[] = []
    for (let at = 0; at < grants.length; at += UPSTREAM_AT_ONCE) {
      receipts.push(
        ...(await Promise.all(
          grants.slice(at, at + UPSTREAM_AT_ONCE).map(async (grant) => ({
            grant: grant.id,
            tenant: grant.tenant,
            user: grant.user,
            server: grant.server,
            downstream: grant.downstream,
            ...(await tellProvider(grant, orders.get(grant.id))),
          })),
        )),
      )
    }
    return receipts
  }

  /** The orders to the providers are durable before the grants are gone: if the daemon dies in between, another carries them out. */
  const removeGrants = async (filters: readonly GrantFilter[], isQueued: boolean) => {
    const listed = (await Promise.all(filters.map((filter) => store.grants.list(filter)))).flat()
    const orders = isQueued ? await options.upstream.prepare(listed) : new Map<string, RevocationOrder>()
    const grants = (await Promise.all(filters.map((filter) => store.grants.remove(filter)))).flat()
    return { orders, grants, cached: options.purge() }
  }

  /** Removes the tenant's key and what is sealed under it. */
  const destroyTenant = async (tenant: string, revocation: Revocation): Promise<void> => {
    await store.secrets.remove({ tenant })
    await store.userNames.remove({ tenant })
    await options.envelope.destroy(tenant)
    // Said once more now that the key is gone: a node that had read it in between forgets it for good.
    const again = { ...revocation, id: newId() }
    const write = () => store.revocations.add(again)
    await options.membership.confirm(await options.membership.record(write), write)
  }

  return {
    async revoke({ scope, by, reason, correlationId, tokenExpiresAt }) {
      const kind = kindOf(scope)
      const tenantOfKey = kind.destroysKeyOf(scope)
      const epoch = await nextEpoch()
      const revocation: Revocation = {
        id: newId(),
        scope,
        epoch,
        by,
        reason: reason ?? null,
        forgetAt: kind.forgetAt({ epoch, tokenExpiresAt, grantMemory: options.grantMemory }),
      }
      const write = () => store.revocations.add(revocation)
      const change = await options.membership.record(write)
      // Another node may have written a revocation in between; this node reads it in a moment.
      revocationIndex.add({ ...revocation, number: change.number }, store.cluster === undefined)
      const filters = kind.grants(scope, options.snapshot())
      // The revocation is in force here, and the others are told already: what it ends need not wait for them.
      const [{ orders, grants, cached }, nodes] = await allOf([
        removeGrants(filters, tenantOfKey === undefined),
        options.membership.confirm(change, write),
      ])
      const [consents, sessions, clientSessions, , receipts, leases] = await allOf([
        removeConsents(store, scope, filters, grants),
        removeWhere(store.sessions, kind.sessions(scope)),
        removeWhere(store.clientSessions, kind.clientSessions(scope)),
        removeWhere(store.identityTokens, kind.identityTokens(scope)),
        tellProviders(grants, orders),
        options.leases.end(kind.leases(scope, options.snapshot()), tenantOfKey !== undefined),
      ])
      if (tenantOfKey !== undefined) await destroyTenant(tenantOfKey, revocation)
      const receipt = {
        id: revocation.id,
        scope,
        epoch,
        dryRun: false,
        grants: receipts,
        leases,
        cached,
        consents,
        sessions,
        clientSessions,
        keyDestroyed: tenantOfKey !== undefined,
        nodes,
      }
      await audit.append(recordOf(receipt, revocation, correlationId))
      options.telemetry.revocation({ scope: scope.kind })
      return receipt
    },

    async preview(scope) {
      const filters = kindOf(scope).grants(scope, options.snapshot())
      const grants = (await Promise.all(filters.map((filter) => store.grants.list(filter)))).flat()
      const leases = (
        await Promise.all(
          kindOf(scope)
            .leases(scope, options.snapshot())
            .map((filter) => options.leases.list(filter)),
        )
      )
        .flat()
        .filter(({ state }) => state === 'active')
      return {
        leases: leases.map(({ id, tenant, user, server, downstream }) => ({
          lease: id,
          tenant,
          user,
          server,
          downstream,
          upstream: 'queued' as const,
        })),
        id: '',
        scope,
        epoch: clock.now(),
        dryRun: true,
        cached: 0,
        sessions: 0,
        clientSessions: (await listWhere(store.clientSessions, kindOf(scope).clientSessions(scope))).length,
        keyDestroyed: false,
        nodes: { acknowledged: 0, expired: [], milliseconds: 0 },
        consents: (await consentsWithin(store, scope, filters, grants)).length,
        grants: await Promise.all(
          grants.map(async (grant) => {
            const covered = new Set(grants.map(({ id }) => id))
            const sharedWith = (await options.upstream.sharedWith(grant)).filter((id) => !covered.has(id))
            return {
              grant: grant.id,
              tenant: grant.tenant,
              user: grant.user,
              server: grant.server,
              downstream: grant.downstream,
              upstream: sharedWith.length === 0 ? ('queued' as const) : ('waiting' as const),
              ...(sharedWith.length === 0 ? {} : { sharedWith }),
            }
          }),
        ),
      }
    },
  }
}

/** The receipt as an audit record. `restoreOrders` reads it, should the store lose the revocation itself. */
const recordOf = (
  { scope, epoch, grants, leases, cached, consents, sessions, clientSessions, nodes }: RevocationReceipt,
  { id, by, reason, forgetAt }: Revocation,
  correlationId: string,
): AuditRecord => ({
  id: correlationId,
  event: 'revocation',
  outcome: 'done',
  ...('tenant' in scope && scope.tenant !== undefined ? { tenant: scope.tenant } : {}),
  ...('user' in scope ? { user: scope.user } : {}),
  ...('server' in scope ? { server: scope.server } : {}),
  ...('downstream' in scope ? { downstream: scope.downstream } : {}),
  detail: {
    revocation: id,
    scope: describeScope(scope),
    covers: scope,
    epoch,
    forget_at: forgetAt,
    by,
    reason,
    grants: grants.map(({ grant, upstream }) => ({ grant, upstream })),
    leases: leases.map(({ lease, upstream }) => ({ lease, upstream })),
    cached,
    consents,
    sessions,
    client_sessions: clientSessions,
    nodes,
  },
})

type ConsentFilter = Omit<GrantFilter, 'provider' | 'id'>

const consentsWithin = async (
  store: Store,
  scope: RevocationScope,
  filters: readonly GrantFilter[],
  grants: readonly Grant[],
) => {
  if (kindOf(scope).consentsOf === 'its filters')
    return (await Promise.all(filters.map((filter) => store.consents.list(filter as ConsentFilter)))).flat()
  const found = await Promise.all(grants.map((grant) => store.consents.find(grant)))
  return found.filter((consent) => consent !== undefined)
}

const removeConsents = async (
  store: Store,
  scope: RevocationScope,
  filters: readonly GrantFilter[],
  grants: readonly Grant[],
): Promise<number> => {
  const gone =
    kindOf(scope).consentsOf === 'its grants'
      ? grants.map(({ tenant, user, server, downstream }) => ({ tenant, user, server, downstream }))
      : (filters as readonly ConsentFilter[])
  let count = 0
  for (const filter of gone) count += await store.consents.remove(filter)
  return count
}

const listWhere = <Filter, Found>(
  records: { list(filter: Filter): Promise<Found[]> },
  filter: Filter | undefined,
): Promise<Found[]> => (filter === undefined ? Promise.resolve([]) : records.list(filter))

const removeWhere = <Filter>(
  records: { remove(filter: Filter): Promise<number> },
  filter: Filter | undefined,
): Promise<number> => (filter === undefined ? Promise.resolve(0) : records.remove(filter))
