import type { UpstreamOutcome } from '#credentials/connector'
import type { LeaseReceipt } from '#credentials/secret'
import type { AuditRecord } from '#foundation/audit'
import type { ClusterAcknowledgement } from '#foundation/cluster'
import type { Revocation, RevocationScope } from '#foundation/store'
import { describeScope } from '#identity/validity'

/** What happened to one grant. */
export interface GrantReceipt {
  readonly grant: string
  readonly tenant: string
  readonly user: string
  readonly server: string
  readonly downstream: string
  readonly upstream: UpstreamOutcome
  /** Of a queued notice: when the provider is notified next (ms since the epoch). */
  readonly nextTry?: number
  /** Grants in use that would end at the provider with this one: the provider is notified when they have ended. */
  readonly sharedWith?: readonly string[]
}

/** What a revocation covered. */
export interface RevocationReceipt {
  readonly id: string
  readonly scope: RevocationScope
  readonly epoch: number
  /** True: nothing was revoked; the receipt says what a revocation would cover. */
  readonly dryRun: boolean
  readonly grants: readonly GrantReceipt[]
  readonly leases: readonly LeaseReceipt[]
  readonly cached: number
  readonly consents: number
  readonly sessions: number
  /** Sign-ins at MCP clients. */
  readonly clientSessions: number
  readonly keyDestroyed: boolean
  /** The other nodes that had to acknowledge it. */
  readonly nodes: ClusterAcknowledgement
}

/** The receipt as an audit record. `restoreOrders` reads it, should the store lose the revocation itself. */
export const recordOf = (
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
