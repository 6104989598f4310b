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
