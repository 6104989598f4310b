import type { DisabledUser, FrozenTenant, Grant, Revocation, RevocationScope, StandingChanges } from '#foundation/store'

/** What a request, a cached credential or a minted token relies on; the facts that a revocation can cover. */
export interface Reliance {
  readonly tenant: string
  readonly user?: string | undefined
  readonly server: string
  /** Every downstream that it is for; empty where it is for none in particular. */
  readonly downstreams: readonly string[]
  readonly provider?: string | undefined
  readonly grant?: string | undefined
  /** The ids of the credential itself, of the subject token, and of all that it descends from. */
  readonly tokens: readonly string[]
  /** When the authority was given: the issue time of the subject token, or the sign-in (ms since the epoch). */
  readonly since: number
  /**
   * Of what this installation obtained: the number of the last revocation that was known when that began
   * (`Standing.number`). A later one covers it also where a clock was set back in between.
   */
  readonly known?: number | undefined
}

const userKey = (tenant: string, user: string): string => `${tenant.length}:${tenant}${user}`

/** Scopes become one text each, so that a check is a few map look-ups whatever has been revoked. */
const keyOf = (scope: RevocationScope): string => {
  switch (scope.kind) {
    case 'tenant':
      return `tenant/${scope.tenant}`
    case 'user':
      return `user/${userKey(scope.tenant, scope.user)}`
    case 'server':
      return `server/${scope.server}/${scope.tenant ?? '*'}`
    case 'downstream':
      return `downstream/${scope.downstream}/${scope.tenant ?? '*'}`
    case 'provider':
      return `provider/${scope.provider}/${scope.tenant ?? '*'}`
    case 'issuer':
      return `issuer/${scope.tenant ?? '*'}/${scope.issuer}`
    case 'everything':
      return 'everything'
    case 'grant':
      return `grant/${scope.grant}`
    case 'token':
      return `token/${scope.token}`
  }
}

/** Ids of tokens that others issued begin with the issuer: `https://idp.example#id` (`tokenIdOf`). */
const issuersOf = (tokens: readonly string[]): string[] =>
  tokens.flatMap((token) => (token.includes('#') ? token.slice(0, token.indexOf('#')) : []))

const firstOf = <T, R>(values: readonly T[], find: (value: T) => R | undefined): R | undefined => {
  for (const value of values) {
    const found = find(value)
    if (found !== undefined) return found
  }
  return undefined
}

/**
 * What has been revoked and who is disabled, in memory: asked on every request, also on a cache hit. The store has
 * the truth; whoever records a revocation there adds it here before it is confirmed to the admin.
 */
export class Standing {
  /** The latest revocation of each scope: it covers what the earlier ones did. */
  readonly #revocations = new Map<string, Revocation>()
  #number = 0
  #epoch = 0
  #disabled = new Map<string, DisabledUser>()
  #frozen = new Map<string, FrozenTenant>()
  readonly #listeners: (() => void)[] = []

  constructor(
    revocations: readonly Revocation[],
    disabled: readonly DisabledUser[],
    frozen: readonly FrozenTenant[] = [],
  ) {
    for (const revocation of revocations) this.add(revocation)
    this.replace({ disabled, frozen })
  }

  /** Takes over who is disabled and frozen, as the store has it now. */
  replace({ disabled, frozen }: { disabled: readonly DisabledUser[]; frozen: readonly FrozenTenant[] }): void {
    this.#disabled = new Map(disabled.map((each) => [userKey(each.tenant, each.user), each]))
    this.#frozen = new Map(frozen.map((each) => [each.tenant, each]))
    this.#changed()
  }

  /** @param isComplete whether every revocation with a lower number is known here as well */
  add(revocation: Revocation, isComplete = true): void {
    const key = keyOf(revocation.scope)
    const known = this.#revocations.get(key)
    const number = Math.max(known?.number ?? 0, revocation.number ?? 0)
    const later = known === undefined || known.epoch < revocation.epoch ? revocation : known
    this.#revocations.set(key, { ...later, number })
    if (isComplete) this.#number = Math.max(this.#number, number)
    this.#epoch = Math.max(this.#epoch, revocation.epoch)
    this.#changed()
  }

  /** The number of the last revocation that is known here. */
  get number(): number {
    return this.#number
  }
  /** The latest epoch of a revocation: none that comes later may have an earlier one. */
  get epoch(): number {
    return this.#epoch
  }

  /** Calls whenever something has been taken from somebody. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener)
  }
  #changed(): void {
    for (const listener of this.#listeners) listener()
  }

  /** Everything that is known here: the latest revocation of each scope, and who is disabled and frozen. */
  known(): StandingChanges {
    return {
      revocations: [...this.#revocations.values()],
      disabled: [...this.#disabled.values()],
      frozen: [...this.#frozen.values()],
    }
  }

  disable(order: DisabledUser): void {
    const key = userKey(order.tenant, order.user)
    // As in the store: given again while it holds, it keeps its time, by which it is lifted.
    this.#disabled.set(key, this.#disabled.get(key) ?? order)
    this.#changed()
  }
  enable(tenant: string, user: string): void {
    this.#disabled.delete(userKey(tenant, user))
  }
  isDisabled(tenant: string, user: string): boolean {
    return this.#disabled.has(userKey(tenant, user))
  }

  freeze(order: FrozenTenant): void {
    this.#frozen.set(order.tenant, this.#frozen.get(order.tenant) ?? order)
    this.#changed()
  }
  thaw(tenant: string): void {
    this.#frozen.delete(tenant)
  }
  isFrozen(tenant: string): boolean {
    return this.#frozen.has(tenant)
  }

  /** Forgets what cannot matter any more. */
  sweep(now: number): void {
    for (const [key, { forgetAt }] of this.#revocations)
      if (forgetAt !== null && forgetAt <= now) this.#revocations.delete(key)
  }

  /** The revocation that voids this, if there is one. What was given at the very moment of the revocation is void too. */
  covering(reliance: Reliance): Revocation | undefined {
    if (this.#revocations.size === 0) return undefined
    const { tenant, user, server, downstreams, provider, grant, tokens } = reliance
    const since = (scope: RevocationScope): Revocation | undefined => {
      const found = this.#revocations.get(keyOf(scope))
      const isLater = found !== undefined && reliance.known !== undefined && (found.number ?? 0) > reliance.known
      return found !== undefined && (isLater || reliance.since <= found.epoch) ? found : undefined
    }
    const inAnyTenant = (scope: Extract<RevocationScope, { tenant?: string }>): Revocation | undefined =>
      since(scope) ?? since({ ...scope, tenant })
    return (
      since({ kind: 'everything' }) ??
      since({ kind: 'tenant', tenant }) ??
      firstOf(issuersOf(tokens), (issuer) => inAnyTenant({ kind: 'issuer', issuer })) ??
      (user === undefined ? undefined : since({ kind: 'user', tenant, user })) ??
      inAnyTenant({ kind: 'server', server }) ??
      firstOf(downstreams, (downstream) => inAnyTenant({ kind: 'downstream', downstream })) ??
      (provider === undefined ? undefined : inAnyTenant({ kind: 'provider', provider })) ??
      (grant === undefined ? undefined : this.#revocations.get(keyOf({ kind: 'grant', grant }))) ??
      firstOf(tokens, (token) => this.#revocations.get(keyOf({ kind: 'token', token })))
    )
  }
}

/** Whether a grant is revoked: one that a store has brought back is none. */
export const voidsGrant =
  (standing: Pick<Standing, 'covering'>) =>
  (grant: Grant): boolean =>
    standing.covering({
      ...grant,
      downstreams: [grant.downstream],
      grant: grant.id,
      tokens: [],
      since: grant.createdAt,
    }) !== undefined

/** The scope in words, for errors and receipts: `user alice of acme`. */
export const describeScope = (scope: RevocationScope): string => {
  const within = 'tenant' in scope && scope.tenant !== undefined ? ` of ${scope.tenant}` : ''
  switch (scope.kind) {
    case 'tenant':
      return `tenant ${scope.tenant}`
    case 'user':
      return `user ${scope.user}${within}`
    case 'server':
      return `server ${scope.server}${within}`
    case 'downstream':
      return `downstream ${scope.downstream}${within}`
    case 'provider':
      return `provider ${scope.provider}${within}`
    case 'issuer':
      return `issuer ${scope.issuer}${within}`
    case 'everything':
      return 'everything'
    case 'grant':
      return `grant ${scope.grant}`
    case 'token':
      return 'this token'
  }
}
