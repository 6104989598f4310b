/**
 * State in SQLite or Postgres. Other rooms use the interfaces of `records/`; statements are in `queries/`, changes of tables in `migrations/`.
 * Columns that hold credentials are sealed by the callers: this room never sees one.
 */
export { copyToPostgres } from './copy.ts'
export { SCHEMA_VERSION } from './migrations/index.ts'
export { migratePostgres, openPostgresStore, postgresDurability, postgresVersion } from './postgres/open.ts'
export type { PostgresOptions } from './postgres/pool.ts'
export { type RecentGrants, rememberGrants } from './recent-grants.ts'
export type { AttemptStore } from './records/attempts.ts'
export type { AuditCheckpoint, AuditFilter, AuditRow, AuditStore, CopiedAudit, SegmentFile } from './records/audit.ts'
export type { AuditPosition, AuditPositionStore } from './records/audit-positions.ts'
export {
  type AuthorizationRecord,
  authorizationRecordName,
  type AuthorizationRecordStore,
} from './records/authorization-records.ts'
export { type BackendToken, backendTokenName, type BackendTokenStore } from './records/backend-tokens.ts'
export type { ReplayStore, UnknownCallerStore } from './records/callers.ts'
export { type ClientRecord, clientRecordName, type ClientRecordStore } from './records/clients.ts'
export {
  type ClientSession,
  type ClientSessionFilter,
  clientSessionName,
  type ClientSessionStore,
} from './records/client-sessions.ts'
export type { Consent, ConsentStore } from './records/consents.ts'
export {
  type Grant,
  type GrantFilter,
  type GrantOwner,
  grantRecordName,
  type GrantStatus,
  type GrantStore,
} from './records/grants.ts'
export type { SecretHolder, SecretHolderStore } from './records/holders.ts'
export type { IdentityTokenFilter, IdentityTokenStore } from './records/identity-tokens.ts'
export { type Lease, type LeaseFilter, type LeaseOwner, leaseRecordName, type LeaseStore } from './records/leases.ts'
export type {
  ClusterStore,
  DisabledUser,
  FrozenTenant,
  Position,
  Renewal,
  Revocation,
  RevocationScope,
  RevocationChanges,
  Subscription,
} from './records/revocations.ts'
export {
  type RotatedSecret,
  type Rotation,
  ROTATION_STATES,
  rotationRecordName,
  type RotationStep,
  type RotationStore,
  type RotationTarget,
} from './records/rotations.ts'
export type { SealedRecord } from './records/sealed.ts'
export type { SecretStage, SecretStore, StoredSecret } from './records/secrets.ts'
export type { Session, SessionFilter, SessionStore } from './records/sessions.ts'
export type { SigningKeyStore, StoredSigningKey } from './records/signing-keys.ts'
export type { StoreWrite } from './records/store-write.ts'
export type { UpstreamRevocation, UpstreamRevocationStore } from './records/upstream-revocations.ts'
export type { UserNameStore } from './records/user-names.ts'
export { openSqliteStore, sqliteVersion } from './sqlite/open.ts'
export {
  auditRowsIn,
  checkStoreFile,
  holdStore,
  type PendingStep,
  pendingSteps,
  schemaProblem,
  snapshotStore,
  type StoreFile,
} from './sqlite/snapshot.ts'
export type { Store } from './store.ts'
