/** The name by which people know a user, as the last verified token or sign-in gave it. */
export interface UserName {
  readonly tenant: string
  /** The id. */
  readonly user: string
  /** Keyed fingerprint of the name. */
  readonly name: string
  /** Keyed fingerprint of tenant, user and name: a row that another program has written has none. */
  readonly proof: string
  readonly seenAt: number
}

export interface UserNameStore {
  /** The user's one name; an earlier one is forgotten. */
  put(name: UserName): Promise<void>
  /** Users of this name: of the tenant, or of every tenant. */
  list(filter: { readonly name: string; readonly tenant?: string }): Promise<UserName[]>
  has(tenant: string, user: string): Promise<boolean>
  remove(filter: { readonly tenant: string }): Promise<number>
  /** Forgets those that were seen last before this moment. */
  sweep(before: number): Promise<number>
}
