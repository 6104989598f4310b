import type { RecordName } from '#foundation/crypto'

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
  /** The credential, sealed under `leaseRecordName`; null while it is being made. */
  readonly sealed: Uint8Array | null
  /** How long it was given for at first (ms). */
  readonly duration: number
  readonly createdAt: number
  readonly renewedAt: number
  /** When it was handed out last. */
  readonly usedAt: number
  /** When the backend ends it; while it is being made, when another node may try. */
  readonly expiresAt: number
  /** When something has to be done about it. */
  readonly nextAt: number
  readonly attempts: number
  readonly problem: string | null
  /** The token of the backend that it ends with (`BackendToken.accessor`); null where it ends with none, or that is not known. */
  readonly parent: string | null
  /** Counts the writes; an update must name the one that it read. */
  readonly revision: number
}

/**
 * What the ciphertext of a lease is bound to: who can write the store cannot move its login to another owner, backend or role.
 */
export const leaseRecordName = ({
  tenant,
  id,
  user,
  server,
  downstream,
  backend,
  role,
}: LeaseOwner & Pick<Lease, 'id' | 'backend' | 'role'>): RecordName => ({
  tenant,
  kind: 'lease/2',
  id: JSON.stringify([id, user ?? '', server, downstream, backend, role]),
})

export interface LeaseFilter {
  tenant?: string
  user?: string
  server?: string
  downstream?: string
  id?: string
  state?: Lease['state']
  parent?: string
}

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
  /** Whether any lease, in whatever state, ends with this token. */
  hasParent(parent: string): Promise<boolean>
  list(filter: LeaseFilter): Promise<Lease[]>
}
