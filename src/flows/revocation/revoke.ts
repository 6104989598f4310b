import type { Clock, Random } from '#clock'
import type { CurrentSnapshot, Snapshot } from '#config'
import type { Revocable, RevocationOrder, UpstreamOutcome } from '#credentials/connector'
import type { LeaseReceipt, Leases } from '#credentials/secret'
import type { AuditLog } from '#foundation/audit'
import type { Confirmation, Membership } from '#foundation/cluster'
import type { Envelope } from '#foundation/crypto'
import type { Grant, GrantFilter, LeaseFilter, Revocation, RevocationScope, Store } from '#foundation/store'
import type { Logger, Telemetry } from '#foundation/telemetry'
import { describeScope, type Standing } from '#identity/validity'

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

/** The grants that a scope covers, as filters: what any of them covers. @param snapshot which tenants sign in at an issuer */
export const grantsWithin = (scope: RevocationScope, snapshot: Snapshot): readonly GrantFilter[] => {
  if (scope.kind !== 'issuer') return [grantFilter(scope)].filter((filter) => filter !== undefined)
  // A grant was given by who had signed in: where that was at this issuer, it rests on its word.
  return [...snapshot.tenants.values()]
    .filter(
      ({ tenant, sign_in: signIn }) =>
        signIn?.issuer === scope.issuer && (scope.tenant === undefined || scope.tenant === tenant),
    )
    .map(({ tenant }) => ({ tenant }))
}

const grantFilter = (scope: Exclude<RevocationScope, { kind: 'issuer' }>): GrantFilter | undefined => {
  switch (scope.kind) {
    case 'tenant':
      return { tenant: scope.tenant }
    case 'user':
      return { tenant: scope.tenant, user: scope.user }
    case 'server':
      return { server: scope.server, ...(scope.tenant === undefined ? {} : { tenant: scope.tenant }) }
    case 'downstream':
      return { downstream: scope.downstream, ...(scope.tenant === undefined ? {} : { tenant: scope.tenant }) }
    case 'provider':
      return { provider: scope.provider, ...(scope.tenant === undefined ? {} : { tenant: scope.tenant }) }
    case 'grant':
      return { id: scope.grant }
    case 'token':
      return undefined
    case 'everything':
      return {}
  }
}

/** The leases that a scope covers. A lease has no provider, and its id stands where a grant's would. */
const leasesWithin = (scope: RevocationScope, snapshot: Snapshot): readonly LeaseFilter[] => {
  if (scope.kind === 'provider') return []
  if (scope.kind !== 'issuer') return [grantFilter(scope)].filter((filter) => filter !== undefined)
  // Whoever has one may have come with a token of this issuer.
  return [...snapshot.tenants.values()]
    .filter(
      ({ tenant, issuers }) =>
        issuers.some(({ issuer }) => issuer === scope.issuer) &&
        (scope.tenant === undefined || scope.tenant === tenant),
    )
    .map(({ tenant }) => ({ tenant }))
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
 * what is covered, because the exchange asks `Standing` last of all.
 */
export const createRevoker = (options: {
  store: Store
  standing: Standing
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
  const { store, standing, audit, clock } = options

  /**
   * No earlier than anything that was handed out, as the audit log has it, and than any revocation: the clock may have
   * been ahead then, and be right now.
   */
  const nextEpoch = async (): Promise<number> => {
    const [epoch, [last]] = await Promise.all([
      options.membership.epoch(),
      store.audit.query({ node: '*' }, { limit: 1, last: true }),
    ])
    return Math.max(epoch, last?.at ?? 0, standing.epoch)
  }

  const tellProvider = async (
    grant: Grant,
    order: RevocationOrder | undefined,
  ): Promise<Pick<GrantReceipt, 'upstream' | 'nextTry' | 'sharedWith'>> => {
    const upstream = await options.upstream.revoke(grant, order).catch((error: unknown): UpstreamOutcome => {
      options.logger.warn({ err: error, grant: grant.id }, 'the provider could not be told of a revocation')
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

  return {
    async revoke({ scope, by, reason, correlationId, tokenExpiresAt }) {
      const epoch = await nextEpoch()
      const revocation: Revocation = {
        id: Buffer.from(options.random.bytes(12)).toString('base64url'),
        scope,
        epoch,
        by,
        reason: reason ?? null,
        forgetAt: forgetAtOf(scope.kind, { epoch, tokenExpiresAt, grantMemory: options.grantMemory }),
      }
      const write = () => store.revocations.add(revocation)
      const change = await options.membership.record(write)
      // Of several nodes another may have written one in between, which this node is told of in a moment.
      standing.add({ ...revocation, number: change.number }, store.cluster === undefined)
      const filters = grantsWithin(scope, options.snapshot())
      const removeGrants = async () => {
        // The orders to the providers are durable before the grants are gone: whoever dies in between, they are told.
        const queue = scope.kind !== 'tenant'
        const listed = (await Promise.all(filters.map((filter) => store.grants.list(filter)))).flat()
        const orders = queue ? await options.upstream.prepare(listed) : new Map<string, RevocationOrder>()
        const grants = (await Promise.all(filters.map((filter) => store.grants.remove(filter)))).flat()
        return { orders, grants, cached: options.purge() }
      }
      // The revocation is in force here, and the others are told already: what it ends need not wait for them.
      const [{ orders, grants, cached }, nodes] = await allOf([
        removeGrants(),
        options.membership.confirm(change, write),
      ])
      const [consents, sessions, , receipts, leases] = await allOf([
        removeConsents(store, scope, filters, grants),
        removeSessions(store, scope),
        removeIdentityTokens(store, scope),
        tellProviders(grants, orders),
        options.leases.end(leasesWithin(scope, options.snapshot()), scope.kind === 'tenant'),
      ])
      if (scope.kind === 'tenant') {
        await store.secrets.remove({ tenant: scope.tenant })
        await store.userNames.remove({ tenant: scope.tenant })
        await options.envelope.destroy(scope.tenant)
        // Said once more now that the key is gone: a node that had read it in between forgets it for good.
        const again = { ...revocation, id: Buffer.from(options.random.bytes(12)).toString('base64url') }
        const writeAgain = () => store.revocations.add(again)
        await options.membership.confirm(await options.membership.record(writeAgain), writeAgain)
      }
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
        keyDestroyed: scope.kind === 'tenant',
        nodes,
      }
      await audit.append({
        id: correlationId,
        event: 'revocation',
        outcome: 'done',
        ...('tenant' in scope && scope.tenant !== undefined ? { tenant: scope.tenant } : {}),
        ...('user' in scope ? { user: scope.user } : {}),
        ...('server' in scope ? { server: scope.server } : {}),
        ...('downstream' in scope ? { downstream: scope.downstream } : {}),
        detail: {
          revocation: revocation.id,
          scope: describeScope(scope),
          covers: scope,
          epoch,
          forget_at: revocation.forgetAt,
          by,
          reason: reason ?? null,
          grants: receipts.map(({ grant, upstream }) => ({ grant, upstream })),
          leases: leases.map(({ lease, upstream }) => ({ lease, upstream })),
          cached,
          consents,
          sessions,
          nodes,
        },
      })
      options.telemetry.revocation({ scope: scope.kind })
      return receipt
    },

    async preview(scope) {
      const filters = grantsWithin(scope, options.snapshot())
      const grants = (await Promise.all(filters.map((filter) => store.grants.list(filter)))).flat()
      const leases = (
        await Promise.all(leasesWithin(scope, options.snapshot()).map((filter) => options.leases.list(filter)))
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

/**
 * When a revocation may be forgotten. A token counts until its own end, however far that is: issuers hand out tokens of 90
 * days and more. What was exchanged from it ends no later than it does.
 */
const forgetAtOf = (
  kind: RevocationScope['kind'],
  { epoch, tokenExpiresAt, grantMemory }: { epoch: number; tokenExpiresAt: number | undefined; grantMemory: number },
): number | null => {
  if (kind === 'grant') return epoch + grantMemory
  return kind === 'token' && tokenExpiresAt !== undefined ? Math.max(epoch, tokenExpiresAt) + END_MARGIN : null
}

/** A revocation outlives its token by this time (ms): clocks of nodes differ. */
const END_MARGIN = 3_600_000

/** Consents have no provider and no id of their own: a grant's or provider's are those of its grants. */
const isOfGrants = (scope: RevocationScope): boolean => scope.kind === 'grant' || scope.kind === 'provider'

type ConsentFilter = Omit<GrantFilter, 'provider' | 'id'>

const consentsWithin = async (
  store: Store,
  scope: RevocationScope,
  filters: readonly GrantFilter[],
  grants: readonly Grant[],
) => {
  if (!isOfGrants(scope))
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
  const gone = isOfGrants(scope)
    ? grants.map(({ tenant, user, server, downstream }) => ({ tenant, user, server, downstream }))
    : (filters as readonly ConsentFilter[])
  let count = 0
  for (const filter of gone) count += await store.consents.remove(filter)
  return count
}

/** Sessions of an issuer are void by its revocation; they need not be looked for. */
const removeSessions = async (store: Store, scope: RevocationScope): Promise<number> => {
  switch (scope.kind) {
    case 'everything':
      return store.sessions.remove({})
    case 'tenant':
      return store.sessions.remove({ tenant: scope.tenant })
    case 'user':
      return store.sessions.remove({ tenant: scope.tenant, user: scope.user })
    default:
      return 0
  }
}

/** What a sign-in brought goes with its user, tenant or issuer. */
const removeIdentityTokens = async (store: Store, scope: RevocationScope): Promise<void> => {
  switch (scope.kind) {
    case 'everything':
      await store.identityTokens.remove({})
      return
    case 'tenant':
      await store.identityTokens.remove({ tenant: scope.tenant })
      return
    case 'user':
      await store.identityTokens.remove({ tenant: scope.tenant, user: scope.user })
      return
    case 'issuer':
      await store.identityTokens.remove({
        issuer: scope.issuer,
        ...(scope.tenant === undefined ? {} : { tenant: scope.tenant }),
      })
  }
}
