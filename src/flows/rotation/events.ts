import { type CurrentSnapshot, keeps, type RotationPolicy } from '#config'
import { DeputyError } from '#errors'
import type { RevocationScope, RotatedSecret, Rotation, RotationStore } from '#foundation/store'
import type { RotationScheduler } from './scheduler.ts'

type RotationEvent = RotationPolicy['when']['on'][number]

export interface RotationEventsOptions {
  readonly snapshot: CurrentSnapshot
  readonly rotations: Pick<RotationStore, 'targets'>
  readonly scheduler: Pick<RotationScheduler, 'reconcile' | 'begin'>
  readonly policies: () => readonly RotationPolicy[]
  readonly policyFor: (secret: RotatedSecret) => RotationPolicy | undefined
}

/** The secrets that a leak report or a departed owner concerns. */
export interface EventSubject {
  readonly tenant?: string
  readonly secret?: string
  readonly owner?: string
}

/** Begins rotations on events, where the policies say so. */
export class RotationEvents {
  readonly #options: RotationEventsOptions

  constructor(options: RotationEventsOptions) {
    this.#options = options
  }

  /** A leak was reported, or an owner has left. @returns the rotations that were begun */
  reported(event: 'leak' | 'owner_left', { tenant, secret, owner }: EventSubject): Promise<Rotation[]> {
    return this.#begin(
      event,
      event,
      (target, policy) =>
        (tenant === undefined || tenant === target.tenant) &&
        (secret === undefined || secret === target.secret) &&
        (owner === undefined || owner === policy.owner),
    )
  }

  /** @returns the rotations that were begun */
  revoked(scope: RevocationScope, revocation: string): Promise<Rotation[]> {
    return this.#begin('revocation', `revocation ${revocation}`, (secret) => this.#isAffected(scope, secret))
  }

  /** Begins a rotation of each secret that the event concerns. One that is under way continues. */
  async #begin(
    event: RotationEvent,
    reason: string,
    isConcerned: (secret: RotatedSecret, policy: RotationPolicy) => boolean,
  ): Promise<Rotation[]> {
    const { rotations, scheduler, policies, policyFor } = this.#options
    const begun: Rotation[] = []
    // Most installations have no policy for the event, and a revocation need not wait for two queries of the store.
    if (!policies().some(({ when }) => when.on.includes(event))) return begun
    await scheduler.reconcile()
    for (const target of await rotations.targets()) {
      const policy = policyFor(target)
      if (policy?.when.on.includes(event) !== true || target.paused !== null || !isConcerned(target, policy)) continue
      try {
        begun.push(await scheduler.begin(target, reason))
      } catch (error) {
        if (!(error instanceof DeputyError && error.code === 'rotation_not_possible')) throw error
      }
    }
    return begun
  }

  /** Whether a party within the scope may have received the secret in the tenant's name. */
  #isAffected(scope: RevocationScope, { tenant, backend, secret }: RotatedSecret): boolean {
    if ('tenant' in scope && scope.tenant !== undefined && scope.tenant !== tenant) return false
    switch (scope.kind) {
      case 'user':
      case 'server':
      case 'issuer':
      case 'everything':
        return true
      case 'downstream':
        return keeps(this.#options.snapshot().downstreams.get(scope.downstream), { backend, secret })
      // A tenant's secrets are destroyed with it; the other kinds do not concern static secrets.
      case 'tenant':
      case 'provider':
      case 'grant':
      case 'client':
      case 'session':
      case 'token':
        return false
    }
  }
}
