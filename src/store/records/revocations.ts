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
  /** Its number among all changes of the standing, of every node; set by the store. Orders events whatever the clocks say. */
  readonly number?: number
}

export interface RevocationStore {
  /** @returns the number of this change of the standing: who has applied changes up to it knows the revocation */
  add(revocation: Omit<Revocation, 'number'>): Promise<number>
  list(): Promise<Revocation[]>
  sweep(now: number): Promise<number>
}

export interface DisabledUser {
  readonly tenant: string
  readonly user: string
  readonly at: number
  readonly by: string
}

export interface DisabledUserStore {
  /** @returns the number of the change, as for revocations */
  add(user: DisabledUser): Promise<number>
  remove(tenant: string, user: string): Promise<boolean>
  list(): Promise<DisabledUser[]>
}

/** A tenant for which nothing is issued until it is thawed; what it has is kept. */
export interface FrozenTenant {
  readonly tenant: string
  readonly at: number
  readonly by: string
  readonly reason: string | null
}

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
  renew(node: {
    id: string
    about: string
    lease: number
    acknowledged: number
  }): Promise<{ number: number; now: number; changes: StandingChanges | undefined }>
  /** Which nodes know a change: `acknowledged` have said so, `waiting` have not while their lease may still run, `expired` when it has surely ended. */
  whoKnows(
    number: number,
    options: { except: string; skew: number },
  ): Promise<{ acknowledged: readonly string[]; waiting: readonly string[]; expired: readonly string[] }>
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
