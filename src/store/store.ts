/**
 * The store: what has happened, as against what files say. One small interface a kind of record; every implementation
 * runs `test/conformance/store.ts`. A write has happened durably when its promise resolves. Sealed columns are
 * ciphertexts made by `crypto/`; the store never sees a secret.
 *
 * Times are milliseconds since the Unix epoch. Every method rejects with `store_unavailable` when the store does not
 * answer within its deadline.
 */
import type { RecordName } from '../crypto/envelope.ts'
import type { SecretStage } from '../secret/backend.ts'

export interface Store {
  readonly grants: GrantStore
  readonly consents: ConsentStore
  readonly attempts: AttemptStore
  readonly sessions: SessionStore
  readonly identityTokens: IdentityTokenStore
  readonly secrets: SecretStore
  readonly rotations: RotationStore
  readonly secretHolders: SecretHolderStore
  readonly leases: LeaseStore
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
  readonly audit: AuditStore
  /** Resolves when the store answers; for readiness. */
  ping(): Promise<void>
  close(): Promise<void>
}

/** Whose grant it is: one for each user, requesting server and downstream of a tenant. */
export interface GrantOwner {
  readonly tenant: string
  readonly user: string
  readonly server: string
  readonly downstream: string
}

/**
 * `active`: usable. `uncertain`: a refresh was sent whose answer is not known; one retry with the kept token is allowed.
 * `retrying`: that retry was sent.
 * `reconnect_required`: the provider has ended it, the user must connect again.
 */
export type GrantStatus = 'active' | 'uncertain' | 'retrying' | 'reconnect_required'

export interface Grant extends GrantOwner {
  readonly id: string
  readonly provider: string
  /** Digest of client id, token endpoint and resource at the time of the grant: a changed client does not break it silently. */
  readonly clientGeneration: string
  readonly scopes: readonly string[]
  readonly status: GrantStatus
  /** Why it is not active, in words without secrets. */
  readonly problem: string | null
  /** Tokens and client facts, sealed with kind `grant`. */
  readonly sealed: Uint8Array
  /** Counts the writes; an update must name the version that it read. */
  readonly version: number
  readonly createdAt: number
  readonly updatedAt: number
  /** Who is refreshing it, and until when nobody else does (ms since the epoch): written by `update`, so fenced by `version`. */
  readonly refreshing?: { readonly owner: string; readonly until: number } | undefined
}

export interface GrantFilter { tenant?: string; user?: string; server?: string; downstream?: string; provider?: string; id?: string }

export interface GrantStore {
  find(owner: GrantOwner): Promise<Grant | undefined>
  get(id: string): Promise<Grant | undefined>
  list(filter: GrantFilter, page?: { after?: string; limit: number }): Promise<Grant[]>
  /** Stores a new grant in the place of the one that this owner may have had. */
  put(grant: Omit<Grant, 'version'>): Promise<Grant>
  /** Writes only if the stored version still is `grant.version` (fencing); the stored version becomes one more. @throws DeputyError `conflict` */
  update(grant: Grant): Promise<Grant>
  /** Removes every grant that the filter covers and returns them, in one transaction. An empty filter covers all. */
  remove(filter: GrantFilter): Promise<Grant[]>
}

/** What a user allowed a server to do at a downstream: kept apart from the grant, so that a dead grant does not ask anew. */
export interface Consent extends GrantOwner {
  /** Scopes that the page offered; those in `granted` were ticked. */
  readonly asked: readonly string[]
  readonly granted: readonly string[]
  readonly at: number
  readonly until: number
}

export interface ConsentStore {
  find(owner: GrantOwner): Promise<Consent | undefined>
  put(consent: Consent): Promise<void>
  list(filter: Omit<GrantFilter, 'provider' | 'id'>): Promise<Consent[]>
  remove(filter: Omit<GrantFilter, 'provider' | 'id'>): Promise<number>
}

/** The ID token of a user's last sign-in at the tenant's identity provider, as ciphertext. */
export interface IdentityToken {
  readonly tenant: string
  readonly user: string
  readonly issuer: string
  readonly sealed: Uint8Array
  /** The end of the token. */
  readonly expiresAt: number
}

export interface IdentityTokenStore {
  find(owner: { readonly tenant: string; readonly user: string }, now: number): Promise<IdentityToken | undefined>
  /** Replaces the user's earlier one. */
  put(token: IdentityToken): Promise<void>
  /** @returns how many there were */
  remove(filter: { readonly tenant?: string; readonly user?: string; readonly issuer?: string }): Promise<number>
  sweep(now: number): Promise<number>
}

/** A flow through the browser that has begun: a connection attempt or a sign-in. */
export interface Attempt {
  /** SHA-256 of the value that the browser carries, so that the store alone cannot be replayed. */
  readonly id: string
  readonly kind: string
  readonly tenant: string
  /** Sealed with kind `attempt`. */
  readonly sealed: Uint8Array
  readonly expiresAt: number
}

export interface AttemptStore {
  put(attempt: Attempt): Promise<void>
  /** Reads without ending it; undefined when there is none of this kind or it has expired at `now`. */
  find(kind: string, id: string, now: number): Promise<Attempt | undefined>
  /** Takes it away: at most one caller ever gets it. The kind is part of the key (typed keyspaces). */
  take(kind: string, id: string, now: number): Promise<Attempt | undefined>
  /** Removes those expired at `now`; returns how many. */
  sweep(now: number): Promise<number>
}

/** `deputy login`: the Unix user with this uid stands for a tenant's user. */
export interface Session {
  readonly uid: number
  readonly tenant: string
  readonly user: string
  readonly issuer: string
  readonly groups: readonly string[]
  readonly claims: Readonly<Record<string, unknown>>
  readonly signedInAt: number
  readonly expiresAt: number
}

export interface SessionStore {
  find(uid: number, now: number): Promise<Session | undefined>
  put(session: Session): Promise<void>
  list(): Promise<Session[]>
  remove(filter: { uid?: number; tenant?: string; user?: string }): Promise<number>
}

export interface StoredSecret {
  readonly tenant: string
  readonly name: string
  readonly version: number
  readonly stage: SecretStage | null
  /** Sealed with kind `secret` and id `name#version`. */
  readonly sealed: Uint8Array
  readonly createdAt: number
  /** What it was staged under. */
  readonly token: string | null
}

export interface SecretStore {
  /** The version in this stage. */
  find(tenant: string, name: string, stage: SecretStage): Promise<StoredSecret | undefined>
  list(tenant?: string): Promise<StoredSecret[]>
  /** The number that the next version will have. */
  nextVersion(tenant: string, name: string): Promise<number>
  /** Adds the version as `current`; what was current becomes `previous`, older ones lose their stage. One transaction. @throws DeputyError `conflict` if the version exists */
  putCurrent(secret: Omit<StoredSecret, 'stage'>): Promise<void>
  /** Adds the version as `pending`. @throws DeputyError `conflict` if the version exists, or another is pending */
  putPending(secret: Omit<StoredSecret, 'stage'>): Promise<void>
  /** The pending version becomes `current`, the current one `previous`, what was previous is removed. One transaction; nothing happens if it is not pending. */
  promote(tenant: string, name: string, version: number): Promise<void>
  /** Removes the version if it is in this stage. */
  removeVersion(tenant: string, name: string, version: number, stage: SecretStage): Promise<void>
  remove(filter: { tenant: string; name?: string }): Promise<number>
}

/** A secret that a policy has rotated, wherever it is kept. */
export interface RotatedSecret { readonly tenant: string; readonly backend: string; readonly secret: string }

/** When a secret rotates next. */
export interface RotationTarget extends RotatedSecret {
  readonly policy: string
  readonly rotatedAt: number | null
  /** Null: not by the clock. */
  readonly nextAt: number | null
  /** Why it does not rotate for now. */
  readonly paused: string | null
}

/** How far a rotation has come: the last step that is done. `rotation/engine.ts` says what each means. */
export type RotationStep = 'planned' | 'staged' | 'applied' | 'verified' | 'promoted' | 'retired' | 'done'
/** `stuck`: what the target says leaves nothing that may be done without a person. */
export type RotationState = 'running' | 'grace' | 'stuck' | 'done' | 'rolled_back'

export interface Rotation extends RotatedSecret {
  readonly id: string
  readonly policy: string
  readonly rotator: string
  /** Why it began, for example `schedule` or `leak`. */
  readonly reason: string
  readonly step: RotationStep
  readonly state: RotationState
  readonly oldVersion: string | null
  readonly newVersion: string | null
  /** What went wrong last, in words without secrets. */
  readonly problem: string | null
  readonly attempts: number
  readonly nextAt: number
  readonly graceUntil: number | null
  readonly startedAt: number
  readonly endedAt: number | null
  /** Who works on it, and until when nobody else does. */
  readonly owner: { readonly id: string; readonly until: number } | null
  /** Counts the writes; an update must name the one that it read. */
  readonly revision: number
}

/** Who was handed a version of a secret that rotates, and may use it until then (ms since the epoch). */
export interface SecretHolder extends RotatedSecret {
  /** The server, the process and the principal, as one name: a newer version in its hands takes the place of the older one. */
  readonly holder: string
  readonly server: string
  readonly version: string
  readonly until: number
}

export interface SecretHolderStore {
  put(holder: SecretHolder): Promise<void>
  /** Those whose time is not over at `now`. */
  list(secret: RotatedSecret, now: number): Promise<SecretHolder[]>
  /** The holder of this name has nothing any more. */
  forget(holder: string): Promise<void>
  sweep(now: number): Promise<number>
}

export interface RotationStore {
  /** @returns false if the secret has an open rotation already */
  begin(rotation: Rotation): Promise<boolean>
  /** Writes only if the stored revision still is `rotation.revision` (fencing). @throws DeputyError `conflict` */
  update(rotation: Rotation): Promise<Rotation>
  /** Open ones whose time has come, and that nobody has claimed for longer than `claimedUntil`. */
  due(now: number, limit: number, claimedUntil: number): Promise<Rotation[]>
  /** Nobody works any more on what owners of these names have claimed: those that begin so, and go on with a slash. */
  release(name: string): Promise<void>
  open(secret: RotatedSecret): Promise<Rotation | undefined>
  /** The latest first. */
  list(filter: { tenant?: string; backend?: string; secret?: string; policy?: string; state?: RotationState }, limit: number): Promise<Rotation[]>
  putTarget(target: RotationTarget): Promise<void>
  target(secret: RotatedSecret): Promise<RotationTarget | undefined>
  targets(): Promise<RotationTarget[]>
  /** Those that are not paused and whose time has come. */
  dueTargets(now: number, limit: number): Promise<RotationTarget[]>
  removeTarget(secret: RotatedSecret): Promise<void>
}

/** For whom a lease is: one for each principal, requesting server and downstream of a tenant. */
export interface LeaseOwner {
  readonly tenant: string
  /** Null: the server for itself. */
  readonly user: string | null
  readonly server: string
  readonly downstream: string
}

/**
 * A credential that a backend has made for an owner, and ends with the lease.
 * `making`: asked for, and not there yet. `active`: handed out. `ending`: handed out no more, and to be ended at its backend.
 */
export interface Lease extends LeaseOwner {
  readonly id: string
  readonly backend: string
  readonly role: string
  readonly state: 'making' | 'active' | 'ending'
  /** What the backend calls it; null while it is being made. */
  readonly external: string | null
  /** The credential, sealed with kind `lease`; null while it is being made. */
  readonly sealed: Uint8Array | null
  /** How long it was given for at first (ms). */
  readonly duration: number
  readonly createdAt: number
  readonly renewedAt: number
  /** When it was handed out last. */
  readonly usedAt: number
  /** When the backend ends it; while it is being made, when somebody else may try. */
  readonly expiresAt: number
  /** When something has to be done about it. */
  readonly nextAt: number
  readonly attempts: number
  readonly problem: string | null
  /** Counts the writes; an update must name the one that it read. */
  readonly revision: number
}

export interface LeaseFilter { tenant?: string; user?: string; server?: string; downstream?: string; id?: string; state?: Lease['state'] }

export interface LeaseStore {
  /** @returns false if the owner has one of the same backend and role already that is not ending */
  begin(lease: Lease): Promise<boolean>
  /** The one of this owner, backend and role that is not ending. */
  find(lease: LeaseOwner & Pick<Lease, 'backend' | 'role'>): Promise<Lease | undefined>
  /** Writes only if the stored revision still is `lease.revision` (fencing). @throws DeputyError `conflict` */
  update(lease: Lease): Promise<Lease>
  /** It was handed out once more; the latest time counts. */
  touch(id: string, at: number): Promise<void>
  remove(id: string): Promise<void>
  due(now: number, limit: number): Promise<Lease[]>
  list(filter: LeaseFilter): Promise<Lease[]>
}

/** What a revocation covers. Everything issued or signed in at or before `epoch` within it is void. */
export type RevocationScope =
  | { readonly kind: 'tenant'; readonly tenant: string }
  | { readonly kind: 'user'; readonly tenant: string; readonly user: string }
  | { readonly kind: 'server'; readonly server: string; readonly tenant?: string }
  | { readonly kind: 'downstream'; readonly downstream: string; readonly tenant?: string }
  | { readonly kind: 'provider'; readonly provider: string; readonly tenant?: string }
  | { readonly kind: 'issuer'; readonly issuer: string; readonly tenant?: string }
  | { readonly kind: 'grant'; readonly grant: string }
  /** A token by its id (`jti`, or fingerprint where it has none); what was exchanged from it is covered too. */
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'everything' }

export interface Revocation {
  readonly id: string
  readonly scope: RevocationScope
  readonly epoch: number
  readonly by: string
  readonly reason: string | null
  /** When nothing that it covers can still be valid, so that it may be forgotten; null: never. */
  readonly forgetAt: number | null
}

export interface RevocationStore {
  /** @returns the number of this change of the standing: who has applied changes up to it knows the revocation */
  add(revocation: Revocation): Promise<number>
  list(): Promise<Revocation[]>
  sweep(now: number): Promise<number>
}

export interface DisabledUser { readonly tenant: string; readonly user: string; readonly at: number; readonly by: string }
export interface DisabledUserStore {
  /** @returns the number of the change, as for revocations */
  add(user: DisabledUser): Promise<number>
  remove(tenant: string, user: string): Promise<boolean>
  list(): Promise<DisabledUser[]>
}

/** A tenant for which nothing is issued until it is thawed; what it has is kept. */
export interface FrozenTenant { readonly tenant: string; readonly at: number; readonly by: string; readonly reason: string | null }
export interface FrozenTenantStore {
  /** @returns the number of the change, as for revocations */
  add(tenant: FrozenTenant): Promise<number>
  remove(tenant: string): Promise<boolean>
  list(): Promise<FrozenTenant[]>
}

/** What has changed about who may get what: revocations since some number, and who is disabled or frozen now. */
export interface StandingChanges {
  readonly revocations: readonly Revocation[]
  readonly disabled: readonly DisabledUser[]
  readonly frozen: readonly FrozenTenant[]
}

/** Capability: a store that several nodes share. See `revocation/lease.ts` for what the steps mean together. */
export interface ClusterStore {
  /**
   * In one transaction that no change of the standing can overlap: the changes after `acknowledged`, and a lease by the
   * store's clock together with the acknowledgement.
   * @param node.lease ms
   * @returns the number of the last change, the store's time (ms since the epoch), and no changes where there are none
   */
  renew(node: { id: string; about: string; lease: number; acknowledged: number }): Promise<{ number: number; now: number; changes: StandingChanges | undefined }>
  /** Which nodes know a change: `acknowledged` have said so, `waiting` have not while their lease may still run, `expired` when it has surely ended. */
  whoKnows(number: number, options: { except: string; skew: number }): Promise<{ acknowledged: readonly string[]; waiting: readonly string[]; expired: readonly string[] }>
  /** The node hands out nothing more. */
  leave(id: string): Promise<void>
  nodes(): Promise<{ id: string; about: string; leaseLeft: number; acknowledged: number }[]>
  /** Runs work that one node at a time may do. */
  exclusively<T>(name: string, work: () => Promise<T>): Promise<T>
  /** The store's time (ms since the epoch). */
  now(): Promise<number>
  /** Calls whenever the standing has changed, as soon as the store says so. @returns what ends it */
  subscribe(changed: () => void): Promise<() => Promise<void>>
}

export interface ReplayStore {
  /** Whether the value is remembered at `now`. */
  has(namespace: string, value: string, now: number): Promise<boolean>
  /** Remembers the value within its namespace until `expiresAt`. @returns false if it was there already: a replay. */
  claim(namespace: string, value: string, expiresAt: number): Promise<boolean>
  sweep(now: number): Promise<number>
}

/** A caller that no registered server matches. */
export interface UnknownCaller {
  /** Digest of the facts that tell callers apart. */
  readonly id: string
  readonly facts: Readonly<Record<string, string | number>>
  readonly firstSeen: number
  readonly lastSeen: number
  readonly count: number
}
export interface UnknownCallerStore {
  record(id: string, facts: Readonly<Record<string, string | number>>, at: number): Promise<void>
  list(): Promise<UnknownCaller[]>
  forget(id: string): Promise<boolean>
}

export interface StoredSigningKey {
  readonly kid: string
  readonly purpose: 'token' | 'checkpoint' | 'client' | 'cloud'
  readonly publicJwk: Readonly<Record<string, unknown>>
  /** Private JWK, sealed for OWN_TENANT with kind `signing-key` and id `kid`. */
  readonly sealed: Uint8Array
  readonly createdAt: number
  /** Signs until then. */
  readonly signsUntil: number
  /** Published until then. */
  readonly publishedUntil: number
}
export interface SigningKeyStore {
  put(key: StoredSigningKey): Promise<void>
  list(): Promise<StoredSigningKey[]>
  remove(kid: string): Promise<void>
}

/** A ciphertext in the store, whatever kind of record it belongs to. */
export interface SealedRecord {
  readonly table: string
  readonly key: readonly (string | number)[]
  readonly name: RecordName
  readonly sealed: Uint8Array
}
/** Every ciphertext of a tenant, for what replaces the key that they are sealed under. */
export interface SealedStore {
  /** Records that are sealed under one of these keys. @param keys ids in hex. @returns at most `limit`; none when there are none */
  under(tenant: string, keys: readonly string[], limit: number): Promise<SealedRecord[]>
  /** Writes only if the record still is what was read, and nobody is at work on it. @returns whether it was written */
  replace(record: SealedRecord, sealed: Uint8Array, now: number): Promise<boolean>
}

/** A revocation that a provider has still to be told: durable, tried until it is done or given up. */
export interface UpstreamRevocation {
  readonly id: string
  readonly grant: string
  readonly tenant: string
  readonly provider: string
  /** Sealed with kind `upstream-revocation`. */
  readonly sealed: Uint8Array
  readonly attempts: number
  readonly nextAt: number
  readonly state: 'queued' | 'irrevocable'
  readonly problem: string | null
}
export interface UpstreamRevocationStore {
  put(entry: UpstreamRevocation): Promise<void>
  due(now: number, limit: number): Promise<UpstreamRevocation[]>
  list(): Promise<UpstreamRevocation[]>
  /** Counts one more attempt and puts the next one off, if nobody else has since it was read. @returns whether this caller may make the attempt */
  claim(entry: UpstreamRevocation, nextAt: number): Promise<boolean>
  remove(id: string): Promise<void>
}

/** One row of the audit log. `body` is the record as canonical JSON, `hash` the chain's value after it. */
export interface AuditRow {
  /** Whose chain it is in, where a query was about other chains as well. */
  readonly node?: string
  readonly seq: number
  /** Correlation id. */
  readonly id: string
  readonly at: number
  readonly event: string
  readonly outcome: string
  readonly tenant: string | null
  readonly user: string | null
  readonly server: string | null
  readonly downstream: string | null
  readonly body: string
  /** SHA-256, hex. */
  readonly hash: string
}
export interface AuditCheckpoint { readonly seq: number; readonly hash: string; readonly at: number; readonly kid: string; readonly signature: string }
export interface AuditFilter {
  id?: string; event?: string; outcome?: string; tenant?: string; user?: string; server?: string; downstream?: string
  since?: number; until?: number
  /** Of another node's chain; `*`: of every chain. Default: the own one. */
  node?: string
  /** Only records after this number. */
  afterSeq?: number
}
export interface AuditStore {
  /** All rows or none, durably. @throws DeputyError `conflict` if a `seq` exists already: two writers. */
  append(rows: readonly AuditRow[]): Promise<void>
  head(): Promise<{ seq: number; hash: string } | undefined>
  /** The node whose chain this is. */
  readonly node: string
  /** Every node that has a chain. */
  chains(): Promise<string[]>
  /** In order of `seq`; with `last`, the last `limit` of those that match, still in order. */
  query(filter: AuditFilter, page: { limit: number; last?: boolean }): Promise<AuditRow[]>
  addCheckpoint(checkpoint: AuditCheckpoint): Promise<void>
  /** @param of default: the own chain's */
  checkpoints(of?: string): Promise<AuditCheckpoint[]>
}
