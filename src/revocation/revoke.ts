import type { AuditLog } from '../audit/record.ts'
import type { Clock, Random } from '../clock.ts'
import type { Revocable, UpstreamOutcome } from '../connector/connector.ts'
import type { Envelope } from '../crypto/envelope.ts'
import type { Logger } from '../observe/logger.ts'
import type { Telemetry } from '../observe/telemetry.ts'
import type { Grant, GrantFilter, Revocation, RevocationScope, Store } from '../store/store.ts'
import { describeScope, type Standing } from './standing.ts'

/** What happened to one grant. */
export interface GrantReceipt {
  readonly grant: string
  readonly tenant: string
  readonly user: string
  readonly server: string
  readonly downstream: string
  readonly upstream: UpstreamOutcome
}

/** What a revocation covered. */
export interface RevocationReceipt {
  readonly id: string
  readonly scope: RevocationScope
  readonly epoch: number
  /** True: nothing was done, this is what it would cover. */
  readonly dryRun: boolean
  readonly grants: readonly GrantReceipt[]
  readonly cached: number
  readonly consents: number
  readonly sessions: number
  readonly keyDestroyed: boolean
}

export interface Revoker {
  /**
   * Ends everything that the scope covers. When it resolves nothing that was given before can be handed out again.
   * @throws DeputyError `store_unavailable`, `audit_unavailable`: the revocation may then stand already; repeat it
   */
  revoke(order: { scope: RevocationScope; by: string; reason?: string; correlationId: string }): Promise<RevocationReceipt>
  preview(scope: RevocationScope): Promise<RevocationReceipt>
}

/** The grants that a scope covers; undefined when it can cover none. */
const grantsWithin = (scope: RevocationScope): GrantFilter | undefined => {
  switch (scope.kind) {
    case 'tenant': return { tenant: scope.tenant }
    case 'user': return { tenant: scope.tenant, user: scope.user }
    case 'server': return { server: scope.server, ...(scope.tenant === undefined ? {} : { tenant: scope.tenant }) }
    case 'downstream': return { downstream: scope.downstream, ...(scope.tenant === undefined ? {} : { tenant: scope.tenant }) }
    case 'provider': return { provider: scope.provider, ...(scope.tenant === undefined ? {} : { tenant: scope.tenant }) }
    case 'grant': return { id: scope.grant }
    case 'token': return undefined
  }
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
  /** Empties the caches of what the scope covers; returns how many entries went. */
  purge: (scope: RevocationScope, grants: readonly Grant[]) => number
  upstream: Revocable
  audit: AuditLog
  telemetry: Telemetry
  logger: Logger
  clock: Clock
  random: Random
  /** Longest life of a token that Deputy or a trusted issuer hands out, ms: after it a revoked token id may be forgotten. */
  longestToken: number
}): Revoker => {
  const { store, standing, audit, clock } = options

  const tellProviders = async (grants: readonly Grant[], queue: boolean): Promise<GrantReceipt[]> => {
    const receipts: GrantReceipt[] = []
    for (let at = 0; at < grants.length; at += UPSTREAM_AT_ONCE) {
      receipts.push(...await Promise.all(grants.slice(at, at + UPSTREAM_AT_ONCE).map(async (grant) => ({
        grant: grant.id, tenant: grant.tenant, user: grant.user, server: grant.server, downstream: grant.downstream,
        upstream: await options.upstream.revoke(grant, { queue }).catch((error: unknown): UpstreamOutcome => {
          options.logger.warn({ err: error, grant: grant.id }, 'the provider could not be told of a revocation')
          return 'failed'
        }),
      }))))
    }
    return receipts
  }

  return {
    async revoke({ scope, by, reason, correlationId }) {
      const epoch = clock.now()
      const revocation: Revocation = {
        id: Buffer.from(options.random.bytes(12)).toString('base64url'), scope, epoch, by, reason: reason ?? null,
        forgetAt: scope.kind === 'token' || scope.kind === 'grant' ? epoch + options.longestToken : null,
      }
      await store.revocations.add(revocation)
      standing.add(revocation)
      const filter = grantsWithin(scope)
      const grants = filter === undefined ? [] : await store.grants.remove(filter)
      const cached = options.purge(scope, grants)
      const consents = await removeConsents(store, scope, grants)
      const sessions = scope.kind === 'tenant' || scope.kind === 'user' ? await store.sessions.remove(scope.kind === 'tenant' ? { tenant: scope.tenant } : { tenant: scope.tenant, user: scope.user }) : 0
      const receipts = await tellProviders(grants, scope.kind !== 'tenant')
      if (scope.kind === 'tenant') {
        await store.secrets.remove({ tenant: scope.tenant })
        await options.envelope.destroy(scope.tenant)
      }
      const receipt = { id: revocation.id, scope, epoch, dryRun: false, grants: receipts, cached, consents, sessions, keyDestroyed: scope.kind === 'tenant' }
      await audit.append({
        id: correlationId, event: 'revocation', outcome: 'done',
        ...('tenant' in scope && scope.tenant !== undefined ? { tenant: scope.tenant } : {}),
        ...('user' in scope ? { user: scope.user } : {}),
        ...('server' in scope ? { server: scope.server } : {}),
        ...('downstream' in scope ? { downstream: scope.downstream } : {}),
        detail: { revocation: revocation.id, scope: describeScope(scope), by, reason: reason ?? null, grants: receipts.map(({ grant, upstream }) => ({ grant, upstream })), cached, consents, sessions },
      })
      options.telemetry.revocation({ scope: scope.kind })
      return receipt
    },

    async preview(scope) {
      const filter = grantsWithin(scope)
      const grants = filter === undefined ? [] : await store.grants.list(filter)
      return {
        id: '', scope, epoch: clock.now(), dryRun: true, cached: 0, sessions: 0, keyDestroyed: false,
        consents: (await consentsWithin(store, scope, grants)).length,
        grants: grants.map((grant) => ({ grant: grant.id, tenant: grant.tenant, user: grant.user, server: grant.server, downstream: grant.downstream, upstream: 'queued' as const })),
      }
    },
  }
}

/** A grant's or provider's consents are those of its grants; other scopes name consents directly. */
const consentsWithin = async (store: Store, scope: RevocationScope, grants: readonly Grant[]) => {
  if (scope.kind === 'token') return []
  if (scope.kind !== 'grant' && scope.kind !== 'provider') return store.consents.list(grantsWithin(scope) as Omit<GrantFilter, 'provider' | 'id'>)
  const found = await Promise.all(grants.map((grant) => store.consents.find(grant)))
  return found.filter((consent) => consent !== undefined)
}

const removeConsents = async (store: Store, scope: RevocationScope, grants: readonly Grant[]): Promise<number> => {
  if (scope.kind === 'token') return 0
  if (scope.kind !== 'grant' && scope.kind !== 'provider') return store.consents.remove(grantsWithin(scope) as Omit<GrantFilter, 'provider' | 'id'>)
  let count = 0
  for (const { tenant, user, server, downstream } of grants) count += await store.consents.remove({ tenant, user, server, downstream })
  return count
}
