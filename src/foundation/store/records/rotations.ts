import type { RecordName } from '#foundation/crypto'

/** A secret that a policy has rotated, wherever it is kept. */
export interface RotatedSecret {
  readonly tenant: string
  readonly backend: string
  readonly secret: string
}

/** When a secret rotates next. */
export interface RotationTarget extends RotatedSecret {
  readonly policy: string
  readonly rotatedAt: number | null
  /** Null: not by the clock. */
  readonly nextAt: number | null
  /** Why it does not rotate for now. */
  readonly paused: string | null
}

/**
 * How far a rotation has come. A step is written down before the act that follows it begins, so it also says which act may
 * have been begun. `rotation/acts.ts` says what each means.
 */
export const ROTATION_STEPS = [
  'planned',
  'prepared',
  'chosen',
  'staged',
  'applied',
  'verified',
  'promoted',
  'retired',
  'proven',
  'done',
  // The way back: from here no step leads forward.
  'going_back',
  'put_back',
  'new_ended',
  'gone_back',
] as const
export type RotationStep = (typeof ROTATION_STEPS)[number]

/** `going_back`: only the way back is left. `stuck`: a person is needed; the step says whether it goes forward or back. */
export const ROTATION_STATES = ['running', 'grace', 'going_back', 'stuck', 'done', 'rolled_back'] as const
export type RotationState = (typeof ROTATION_STATES)[number]

export interface Rotation extends RotatedSecret {
  readonly id: string
  readonly policy: string
  readonly rotator: string
  /** Where the rotator works, from the plan on. */
  readonly target: string | null
  /** Why it began, for example `schedule` or `leak`. */
  readonly reason: string
  readonly step: RotationStep
  readonly state: RotationState
  readonly oldVersion: string | null
  readonly newVersion: string | null
  /** What went wrong last, in words without secrets. */
  readonly problem: string | null
  /** Why it goes back, once it does. */
  readonly turnedBack: string | null
  readonly attempts: number
  readonly nextAt: number
  readonly graceUntil: number | null
  readonly startedAt: number
  readonly endedAt: number | null
  /** The claim of the node that works on it, and its end. */
  readonly owner: { readonly id: string; readonly until: number } | null
  /** Counts the writes; an update must name the one that it read. */
  readonly revision: number
}

/** What the values that a rotation keeps are bound to: the rotation, its secret, and the target at which they are ended. */
export const rotationRecordName = ({
  tenant,
  id,
  backend,
  secret,
  rotator,
  target,
}: Pick<Rotation, 'tenant' | 'id' | 'backend' | 'secret' | 'rotator' | 'target'>): RecordName => ({
  tenant,
  kind: 'rotation',
  id: JSON.stringify([id, backend, secret, rotator, target ?? '']),
})

export interface RotationStore {
  /** @returns false if the secret has an open rotation already */
  begin(rotation: Rotation): Promise<boolean>
  /**
   * Writes only if the stored revision still is `rotation.revision` (fencing).
   * @param sealed what the rotation keeps from now on; null: nothing; undefined: what it has kept
   * @throws DeputyError `conflict`
   */
  update(rotation: Rotation, sealed?: Uint8Array | null): Promise<Rotation>
  /** What a rotation keeps, sealed under `rotationRecordName`; null where it keeps nothing. */
  sealedOf(id: string): Promise<Uint8Array | null>
  /** Open rotations that are due, without a claim beyond `claimedUntil`. */
  due(now: number, limit: number, claimedUntil: number): Promise<Rotation[]>
  /** Releases the claims of owners of this name: those that begin with it and a slash. */
  release(name: string): Promise<void>
  open(secret: RotatedSecret): Promise<Rotation | undefined>
  /** The latest first. */
  list(
    filter: { tenant?: string; backend?: string; secret?: string; policy?: string; state?: RotationState },
    limit: number,
  ): Promise<Rotation[]>
  putTarget(target: RotationTarget): Promise<void>
  target(secret: RotatedSecret): Promise<RotationTarget | undefined>
  targets(): Promise<RotationTarget[]>
  /** Those that are not paused and whose time has come. */
  dueTargets(now: number, limit: number): Promise<RotationTarget[]>
  removeTarget(secret: RotatedSecret): Promise<void>
}
