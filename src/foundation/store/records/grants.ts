import type { RecordName } from '#foundation/crypto'
/** Whose grant it is: one for each user, requesting server and downstream of a tenant. */
export interface GrantOwner {
  readonly tenant: string
  readonly user: string
  readonly server: string
  readonly downstream: string
}

/**
 * `active`: usable. `uncertain`: a refresh was sent whose answer is not known; the kept token is tried again, with growing pauses.
 * `retrying`: of earlier versions, now the same. `reconnect_required`: the provider has ended it, the user must connect again.
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
  /** The claim of the node that refreshes it, and its end (ms since the epoch): written by `update`, so fenced by `version`. */
  readonly refreshing?: { readonly owner: string; readonly until: number } | undefined
}

/**
 * What the ciphertext of a grant is bound to: who can write the store cannot move it to another user, server or downstream.
 */
export const grantRecordName = ({
  tenant,
  id,
  user,
  server,
  downstream,
}: Pick<Grant, 'tenant' | 'id' | 'user' | 'server' | 'downstream'>): RecordName => ({
  tenant,
  kind: 'grant/2',
  id: JSON.stringify([id, user, server, downstream]),
})

export interface GrantFilter {
  tenant?: string
  user?: string
  server?: string
  downstream?: string
  provider?: string
  id?: string
}

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
