/**
 * The store: what has happened, as against what files say. One small interface a kind of record; every implementation
 * runs `test/conformance/store.ts`. A write has happened durably when its promise resolves. Sealed columns are
 * ciphertexts made by `crypto/`; the store never sees a secret.
 *
 * Times are milliseconds since the Unix epoch. Every method rejects with `store_unavailable` when the store does not
 * answer within its deadline.
 */
import type { AttemptStore } from './records/attempts.ts'
import type { AuditStore } from './records/audit.ts'
import type { AuditPositionStore } from './records/audit-positions.ts'
import type { AuthorizationRecordStore } from './records/authorization-records.ts'
import type { BackendTokenStore } from './records/backend-tokens.ts'
import type { ClientRecordStore } from './records/clients.ts'
import type { ClientSessionStore } from './records/client-sessions.ts'
import type { ClusterStore, DisabledUserStore, FrozenTenantStore, RevocationStore } from './records/revocations.ts'
import type { ConsentStore } from './records/consents.ts'
import type { GrantStore } from './records/grants.ts'
import type { IdentityTokenStore } from './records/identity-tokens.ts'
import type { LeaseStore } from './records/leases.ts'
import type { LossStore } from './records/losses.ts'
import type { ReplayStore, UnknownCallerStore } from './records/callers.ts'
import type { RotationStore } from './records/rotations.ts'
import type { SealedStore } from './records/sealed.ts'
import type { SecretHolderStore } from './records/holders.ts'
import type { SecretStore } from './records/secrets.ts'
import type { SessionStore } from './records/sessions.ts'
import type { SigningKeyStore } from './records/signing-keys.ts'
import type { UserNameStore } from './records/user-names.ts'
import type { UpstreamRevocationStore } from './records/upstream-revocations.ts'

export interface Store {
  readonly grants: GrantStore
  readonly consents: ConsentStore
  readonly attempts: AttemptStore
  readonly sessions: SessionStore
  readonly clientSessions: ClientSessionStore
  readonly clients: ClientRecordStore
  readonly authorizationRecords: AuthorizationRecordStore
  readonly identityTokens: IdentityTokenStore
  readonly userNames: UserNameStore
  readonly secrets: SecretStore
  readonly rotations: RotationStore
  readonly secretHolders: SecretHolderStore
  readonly leases: LeaseStore
  readonly backendTokens: BackendTokenStore
  readonly revocations: RevocationStore
  readonly disabledUsers: DisabledUserStore
  readonly frozenTenants: FrozenTenantStore
  /** Undefined for a store that one process holds. */
  readonly cluster?: ClusterStore
  readonly replays: ReplayStore
  readonly unknownCallers: UnknownCallerStore
  readonly signingKeys: SigningKeyStore
  readonly upstreamRevocations: UpstreamRevocationStore
  readonly sealed: SealedStore
  readonly losses: LossStore
  readonly audit: AuditStore
  readonly auditPositions: AuditPositionStore
  /** Resolves when the store answers; for readiness. */
  ping(): Promise<void>
  close(): Promise<void>
}
