import type { DisabledUser, FrozenTenant, Grant, Revocation, RevocationChanges } from '#foundation/store'
import type { CredentialDependencies } from './credential-dependencies.ts'
import { scopeKey, scopesCovering } from './scopes.ts'

const userKey = (tenant: string, user: string): string => `${tenant.length}:${tenant}${user}`

/**
 * What has been revoked and who is disabled, in memory: asked on every request, also on a cache hit. The store has
 * the truth; every revocation that is recorded there is added here before it is confirmed to the admin.
 */
export class RevocationIndex {
  /** The latest revocation of each scope: it covers what the earlier ones did. */
  readonly #revocations = new Map<string, Revocation>()
  #number = 0
  #epoch = 0
  #version = 0
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
    const key = scopeKey(revocation.scope)
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

  /** Another number after each change: while it is the same, so is every answer of this index. */
  get version(): number {
    return this.#version
  }

  /** Calls back after each revocation, freeze and disabling. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener)
  }
  #changed(): void {
    this.#version += 1
    for (const listener of this.#listeners) listener()
  }

  /** Everything that is known here: the latest revocation of each scope, and who is disabled and frozen. */
  known(): RevocationChanges {
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
    this.#version += 1
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
    this.#version += 1
  }
  isFrozen(tenant: string): boolean {
    return this.#frozen.has(tenant)
  }

  /** Forgets what cannot matter any more. */
  sweep(now: number): void {
    this.#version += 1
    for (const [key, { forgetAt }] of this.#revocations)
      if (forgetAt !== null && forgetAt <= now) this.#revocations.delete(key)
  }

  /** The revocation that voids this, if there is one. What was given at the very moment of the revocation is void too. */
  findRevocation(dependsOn: CredentialDependencies): Revocation | undefined {
    if (this.#revocations.size === 0) return undefined
    for (const { scope, byId } of scopesCovering(dependsOn)) {
      const found = this.#revocations.get(scopeKey(scope))
      if (found === undefined) continue
      const isLater = dependsOn.known !== undefined && (found.number ?? 0) > dependsOn.known
      if (byId || isLater || dependsOn.since <= found.epoch) return found
    }
    return undefined
  }
}

/** Whether a grant is revoked: one that a store has brought back is none. */
export const voidsGrant =
  (revocationIndex: Pick<RevocationIndex, 'findRevocation'>) =>
  (grant: Grant): boolean =>
    revocationIndex.findRevocation({
      ...grant,
      downstreams: [grant.downstream],
      grant: grant.id,
      tokens: [],
      since: grant.createdAt,
    }) !== undefined
