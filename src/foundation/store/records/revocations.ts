/** What a revocation covers. Everything issued or signed in at or before `epoch` within it is void. */
export type RevocationScope =
  | { readonly kind: 'tenant'; readonly tenant: string }
  | { readonly kind: 'user'; readonly tenant: string; readonly user: string }
  | { readonly kind: 'server'; readonly server: string; readonly tenant?: string }
  | { readonly kind: 'downstream'; readonly downstream: string; readonly tenant?: string }
  | { readonly kind: 'provider'; readonly provider: string; readonly tenant?: string }
  | { readonly kind: 'issuer'; readonly issuer: string; readonly tenant?: string }
  | { readonly kind: 'grant'; readonly grant: string }
  /** An MCP client: what its sign-ins gave. */
  | { readonly kind: 'client'; readonly client: string; readonly tenant?: string }
  /** One sign-in of a user at an MCP client. */
  | { readonly kind: 'session'; readonly session: string }
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

/**
 * A place in the history of changes of the standing. The number orders changes, and the token, which the store draws for each
 * change, says in which history: a store that has lost its last changes uses their numbers again, never their tokens.
 */
export interface Position {
  readonly number: number
  readonly token: string
}

export interface RevocationStore {
  /**
   * Adds it; one whose id the store has already is left as it is, so that a write of unknown outcome can be repeated.
   * @returns where this change is in the history: who has applied changes up to it knows the revocation
   */
  add(revocation: Omit<Revocation, 'number'>): Promise<Position>
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
  /** @returns where the change is in the history, as for revocations */
  add(user: DisabledUser): Promise<Position>
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
  /** @returns where the change is in the history, as for revocations */
  add(tenant: FrozenTenant): Promise<Position>
  remove(tenant: string): Promise<boolean>
  list(): Promise<FrozenTenant[]>
}

/** What has changed about who may get what: revocations since some number, and who is disabled or frozen now. */
export interface RevocationChanges {
  readonly revocations: readonly Revocation[]
  readonly disabled: readonly DisabledUser[]
  readonly frozen: readonly FrozenTenant[]
}

/** What a look at the store has found. */
export interface FoundChanges extends RevocationChanges {
  /** The last of them. */
  readonly last: Position
  /** Names the process of the server, as a renewal does. */
  readonly server: string
}

/** What a node says of itself when it asks for a lease. */
export interface RenewalRequest {
  /** The incarnation. */
  readonly id: string
  /** The node. */
  readonly about: string
  /** ms. */
  readonly lease: number
  /** ms by which clocks may differ. */
  readonly skew: number
  /** When this incarnation had its first lease, by the store's clock (ms since the epoch); undefined with the first request. */
  readonly startedAt: number | undefined
  /** The last change that it has applied; undefined when it has to read everything. */
  readonly applied: Position | undefined
  /** Keyed proof of that, for the nodes that wait for it; null with nothing applied. */
  readonly proof: string | null
  /** Changes of its own that the store has confirmed and that it has not read back yet. */
  readonly written: readonly Position[]
  /** The token that this request leaves in the node's row. */
  readonly token: string
  /** The tokens one of which the row must have: those of the last answered renewal and of all sent since. Empty: not asked. */
  readonly previous: readonly string[]
  /** Whether it is known that no other process of this name takes its place: then they are not named again. */
  readonly keepsName: boolean
}

/**
 * What the store answers. `granted`: there is a lease. `foreign_past`: what the node says about the past is not what the store has:
 * the store has lost commits, or it is another one; no lease. `name_shared`: other incarnations have rows with the
 * node's name; no lease before it
 * is judged which of them are real, and older.
 * `server` names the process of the server: another name, and commits may have been lost.
 */
export type Renewal = {
  readonly now: number
  readonly server: string
  /** For how long nodes have seen this process of the server (ms). */
  readonly serverAge: number
} & (
  | { readonly outcome: 'granted'; readonly last: Position; readonly startedAt: number }
  | { readonly outcome: 'foreign_past'; readonly last: Position; readonly problem: string }
  | { readonly outcome: 'name_shared'; readonly by: readonly string[] }
)

/** Who knows a change. `acknowledged` have said so, `waiting` have not while their lease may still run, `expired` when it has surely ended. */
export interface Knowledge {
  readonly acknowledged: readonly string[]
  readonly waiting: readonly string[]
  readonly expired: readonly string[]
  /** The change is not in the history any more: the store has lost it, and it has to be written again. */
  readonly isLost: boolean
  /** ms for which leases may still run that a server before this one has granted and this one does not know. */
  readonly unsettled: number
}

/** A node that has or had a lease. */
export interface NodeRow {
  readonly id: string
  readonly about: string
  /** ms. */
  readonly leaseLeft: number
  /** The last change that it has applied. */
  readonly acknowledged: number
  /** What it has said by `describe`; null: nothing, as nodes of earlier versions. */
  readonly configuration: string | null
  /** ms since the epoch. */
  readonly configuredAt: number | null
}

/** Capability: a store that several nodes share. See `revocation/lease.ts` for what the steps mean together. */
export interface ClusterStore {
  /** In one statement that no change of the standing can overlap: a lease by the store's clock, and the last change. */
  renew(request: RenewalRequest): Promise<Renewal>
  /**
   * Everything after a change, in one look; undefined when that one or `upTo` is not in the history: the store has lost
   * it, or a row of the history was deleted. @param after undefined for everything
   */
  changesSince(after: Position | undefined, upTo?: Position): Promise<FoundChanges | undefined>
  isInHistory(place: Position): Promise<boolean>
  /** @param options.isProven whether the node itself has said that it has applied all up to a change: others can write the row */
  whoKnows(
    change: Position,
    options: {
      readonly except: string
      readonly lease: number
      readonly skew: number
      readonly isProven: (id: string, applied: Position, proof: string | null) => boolean
    },
  ): Promise<Knowledge>
  /** Makes the next number higher than this one: numbers that were used in a history that is lost are not used again. */
  liftNumber(above: number): Promise<void>
  /** The node hands out nothing more. */
  leave(id: string): Promise<void>
  nodes(): Promise<NodeRow[]>
  /** Keeps by which configuration a node decides, and since when by the store's clock. */
  describe(id: string, configuration: string): Promise<void>
  /** Runs work that one node at a time may do. */
  exclusively<T>(name: string, work: () => Promise<T>): Promise<T>
  /** Whether a fail-over of the store loses what it has confirmed, in a sentence. */
  durability(): Promise<{ readonly state: string; readonly sentence: string }>
  /** The store's time (ms since the epoch). */
  now(): Promise<number>
  /** Calls whenever the standing has changed, as soon as the store says so. */
  subscribe(changed: () => void): Promise<Subscription>
}

export interface Subscription {
  /** Looks whether the server still has this listener, and connects anew when it does not answer. */
  check(): void
  close(): Promise<void>
}
