import type { Clock, Random } from '#clock'
import type { CurrentSnapshot } from '#config'
import type { Revocable, RevocationOrder } from '#credentials/connector'
import type { LeaseReceipt, Leases } from '#credentials/secret'
import type { AuditLog } from '#foundation/audit'
import type { Membership } from '#foundation/cluster'
import { type Envelope, randomText } from '#foundation/crypto'
import type { Grant, GrantFilter, Position, Revocation, RevocationScope, Store } from '#foundation/store'
import type { Logger, Telemetry } from '#foundation/telemetry'
import { kindOf, type RevocationIndex } from '#identity/validity'
import { notifyProviders, previewProviders } from './providers.ts'
import { recordOf, type RevocationReceipt } from './receipt.ts'
import { consentsWithin, listWhere, removeConsents, removeWhere } from './removals.ts'

/** An admin's order to revoke. */
export interface RevocationRequest {
  readonly scope: RevocationScope
  readonly by: string
  readonly reason?: string
  readonly correlationId: string
  /** Of a token: when it ends (ms since the epoch). Undefined: not known, and its revocation is stored for good. */
  readonly tokenExpiresAt?: number
}

export interface Revoker {
  /**
   * Ends everything that the scope covers. When it resolves nothing that was given before can be handed out again.
   * @throws DeputyError `store_unavailable`, `audit_unavailable`: the revocation may then stand already; repeat it
   */
  revoke(request: RevocationRequest): Promise<RevocationReceipt>
  /** What a revocation would cover. */
  preview(scope: RevocationScope): Promise<RevocationReceipt>
}

export interface RevokerOptions {
  readonly store: Store
  readonly revocationIndex: RevocationIndex
  readonly envelope: Envelope
  /** Removes revoked entries from the caches. @returns how many */
  readonly purge: () => number
  readonly upstream: Revocable
  readonly leases: Pick<Leases, 'end' | 'list'>
  readonly audit: AuditLog
  readonly telemetry: Telemetry
  readonly logger: Logger
  readonly clock: Clock
  readonly random: Random
  readonly membership: Pick<Membership, 'epoch' | 'record' | 'confirm'>
  readonly snapshot: CurrentSnapshot
  /** How long the revocation of a grant is stored (ms): longer than anything lives that was obtained from it. */
  readonly grantMemory: number
}

/**
 * The line of a revocation: recorded durably, in force in memory, caches emptied, grants and consents removed,
 * providers notified, receipt in the audit log. Order matters: from the second step on no request can be answered with
 * a covered credential, because the exchange asks `RevocationIndex` last of all.
 */
export const createRevoker = (options: RevokerOptions): Revoker => new RevocationLine(options)

/** Waits for all, also where one fails: no part of a revocation runs on after its answer. */
const allOf = async <T extends readonly Promise<unknown>[]>(work: readonly [...T]) => {
  await Promise.allSettled(work)
  return Promise.all(work)
}

/** Grants that were removed from the store, with the orders to their providers. */
interface RemovedGrants {
  readonly filters: readonly GrantFilter[]
  readonly orders: ReadonlyMap<string, RevocationOrder>
  readonly grants: readonly Grant[]
  readonly cached: number
}

class RevocationLine implements Revoker {
  readonly #options: RevokerOptions

  constructor(options: RevokerOptions) {
    this.#options = options
  }

  async revoke(request: RevocationRequest): Promise<RevocationReceipt> {
    const { audit, telemetry, membership } = this.#options
    const { scope } = request
    const tenantOfKey = kindOf(scope).destroysKeyOf(scope)
    const revocation = await this.#toRevocation(request)
    const write = () => this.#options.store.revocations.add(revocation)
    const change = await this.#putInForce(revocation, write)
    // The revocation is in force here and announced to the other nodes: removing what it covers need not wait for them.
    const [removed, nodes] = await allOf([
      this.#removeGrants(scope, tenantOfKey === undefined),
      membership.confirm(change, write),
    ])
    const ended = await this.#end(scope, removed, tenantOfKey !== undefined)
    if (tenantOfKey !== undefined) await this.#destroyTenant(tenantOfKey, revocation)
    const receipt: RevocationReceipt = {
      id: revocation.id,
      scope,
      epoch: revocation.epoch,
      dryRun: false,
      ...ended,
      cached: removed.cached,
      keyDestroyed: tenantOfKey !== undefined,
      nodes,
    }
    await audit.append(recordOf(receipt, revocation, request.correlationId))
    telemetry.revocation({ scope: scope.kind })
    return receipt
  }

  async preview(scope: RevocationScope): Promise<RevocationReceipt> {
    const { store, snapshot, clock } = this.#options
    const filters = kindOf(scope).grants(scope, snapshot())
    const grants = (await Promise.all(filters.map((filter) => store.grants.list(filter)))).flat()
    return {
      id: '',
      scope,
      epoch: clock.now(),
      dryRun: true,
      grants: await previewProviders(this.#options, grants),
      leases: await this.#previewLeases(scope),
      cached: 0,
      consents: (await consentsWithin(store, scope, filters, grants)).length,
      sessions: 0,
      clientSessions: (await listWhere(store.clientSessions, kindOf(scope).clientSessions(scope))).length,
      keyDestroyed: false,
      nodes: { acknowledged: 0, expired: [], milliseconds: 0 },
    }
  }

  async #toRevocation({ scope, by, reason, tokenExpiresAt }: RevocationRequest): Promise<Revocation> {
    const epoch = await this.#nextEpoch()
    const { grantMemory } = this.#options
    return {
      id: this.#newId(),
      scope,
      epoch,
      by,
      reason: reason ?? null,
      forgetAt: kindOf(scope).forgetAt({ epoch, tokenExpiresAt, grantMemory }),
    }
  }

  /**
   * No earlier than anything that was handed out, as the audit log has it, and than any revocation: the clock may have
   * been ahead then, and be right now.
   */
  async #nextEpoch(): Promise<number> {
    const { store, membership, revocationIndex } = this.#options
    const [epoch, [last]] = await Promise.all([
      membership.epoch(),
      // In the order of time: the record that was written last may have an earlier one.
      store.audit.query({ node: '*' }, { limit: 1, last: true }),
    ])
    return Math.max(epoch, last?.at ?? 0, revocationIndex.epoch)
  }

  /** Durable, and then in force on this node. */
  async #putInForce(revocation: Revocation, write: () => Promise<Position>): Promise<Position> {
    const { store, membership, revocationIndex } = this.#options
    const change = await membership.record(write)
    // Another node may have written a revocation in between; this node reads it in a moment.
    revocationIndex.add({ ...revocation, number: change.number }, store.cluster === undefined)
    return change
  }

  /** The orders to the providers are durable before the grants are removed: if the daemon dies in between, another carries them out. */
  async #removeGrants(scope: RevocationScope, isQueued: boolean): Promise<RemovedGrants> {
    const { store, upstream, purge, snapshot } = this.#options
    const filters = kindOf(scope).grants(scope, snapshot())
    const listed = (await Promise.all(filters.map((filter) => store.grants.list(filter)))).flat()
    const orders = isQueued ? await upstream.prepare(listed) : new Map<string, RevocationOrder>()
    const grants = (await Promise.all(filters.map((filter) => store.grants.remove(filter)))).flat()
    return { filters, orders, grants, cached: purge() }
  }

  /** Removes and ends everything else that the scope covers. */
  async #end(scope: RevocationScope, { filters, orders, grants }: RemovedGrants, keyEnds: boolean) {
    const { store, leases, snapshot } = this.#options
    const kind = kindOf(scope)
    const [consents, sessions, clientSessions, , notified, ended] = await allOf([
      removeConsents(store, scope, filters, grants),
      removeWhere(store.sessions, kind.sessions(scope)),
      removeWhere(store.clientSessions, kind.clientSessions(scope)),
      removeWhere(store.identityTokens, kind.identityTokens(scope)),
      notifyProviders(this.#options, grants, orders),
      leases.end(kind.leases(scope, snapshot()), keyEnds),
    ])
    return { consents, sessions, clientSessions, grants: notified, leases: ended }
  }

  /** Removes the tenant's key and the records that are sealed under it. */
  async #destroyTenant(tenant: string, revocation: Revocation): Promise<void> {
    const { store, envelope, membership } = this.#options
    await store.secrets.remove({ tenant })
    await store.userNames.remove({ tenant })
    await envelope.destroy(tenant)
    // Announced once more now that the key is gone: a node that had read it in between forgets it for good.
    const again = { ...revocation, id: this.#newId() }
    const write = () => store.revocations.add(again)
    await membership.confirm(await membership.record(write), write)
  }

  async #previewLeases(scope: RevocationScope): Promise<LeaseReceipt[]> {
    const { leases, snapshot } = this.#options
    const filters = kindOf(scope).leases(scope, snapshot())
    return (await Promise.all(filters.map((filter) => leases.list(filter))))
      .flat()
      .filter(({ state }) => state === 'active')
      .map(({ id, tenant, user, server, downstream }) => ({
        lease: id,
        tenant,
        user,
        server,
        downstream,
        upstream: 'queued',
      }))
  }

  #newId(): string {
    return randomText(this.#options.random, 12)
  }
}
