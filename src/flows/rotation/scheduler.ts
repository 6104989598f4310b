import { randomUUID } from 'node:crypto'
import type { Clock } from '#clock'
import { covers, type RotationPolicy } from '#config'
import { refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import type { RotatedSecret, Rotation, RotationStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { RotationEngine } from './engine.ts'
import { nextRotation } from './schedule.ts'

/** How often the scheduler looks for rotations that are due (ms). */
const TICK_MS = 1000
const AT_ONCE = 500
/** So many rotations are under way for each turn that a target has: some ask it while others write down what it has said. */
const UNDER_WAY_PER_TURN = 8
/** After a rotation that was rolled back, the next scheduled attempt (ms). */
const AFTER_ROLL_BACK_MS = 3_600_000

export interface SchedulerOptions {
  readonly rotations: RotationStore
  readonly engine: Pick<RotationEngine, 'advance'>
  readonly policies: () => readonly RotationPolicy[]
  /** The secrets that a policy covers, as its backend has them now. */
  readonly secretsOf: (policy: RotationPolicy) => Promise<readonly RotatedSecret[]>
  /** Where a rotation of a policy works. */
  readonly targetOf: (policy: RotationPolicy, secret: RotatedSecret) => string
  readonly audit: AuditLog
  /** Notifies the policy's webhooks of a rotation that has ended, or needs a person. */
  readonly notify: (rotation: Rotation, policy: RotationPolicy) => Promise<void>
  readonly clock: Clock
  /** ms, never going back. */
  readonly monotonic: () => number
  readonly logger: Logger
  /** Whether other nodes work on the same store. */
  readonly shared: boolean
}

const keyOf = ({ tenant, backend, secret }: RotatedSecret): string => JSON.stringify([tenant, backend, secret])

/** Begins what is due, and takes open rotations on, some at a time for each target. */
export class RotationScheduler {
  readonly #options: SchedulerOptions
  #timer: NodeJS.Timeout | undefined
  #ticking: Promise<void> | undefined
  #closed = false
  /** Rotations under way in this process, by where they work. */
  readonly #underWay = new Map<string, Set<Promise<void>>>()
  readonly #taken = new Set<string>()

  /** The time of day at the start minus the monotonic clock (ms): with it the monotonic clock gives a time of day. */
  readonly #origin: number

  constructor(options: SchedulerOptions) {
    this.#options = options
    this.#origin = options.clock.now() - options.monotonic()
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#ticking ??= this.tick()
        .catch((error: unknown) => {
          this.#options.logger.warn({ err: error }, 'care of rotations failed; retrying in a second')
        })
        .finally(() => {
          this.#ticking = undefined
        })
    }, TICK_MS)
    this.#timer.unref()
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    await this.#ticking
    await Promise.all([...this.#underWay.values()].flatMap((set) => [...set]))
  }

  policyFor(secret: RotatedSecret): RotationPolicy | undefined {
    return this.#options.policies().find((policy) => covers(policy, secret))
  }

  /** Applies the files: new secrets are added, secrets without a policy are removed, and a changed policy plans its rotations again. */
  async reconcile(): Promise<void> {
    const { rotations, clock } = this.#options
    const known = new Map((await rotations.targets()).map((target) => [keyOf(target), target]))
    const covered = new Set<string>()
    for (const policy of this.#options.policies()) {
      for (const secret of await this.#options.secretsOf(policy)) {
        const key = keyOf(secret)
        covered.add(key)
        const target = known.get(key)
        // What was never rotated here is as old as its first sight.
        const rotatedAt = target?.rotatedAt ?? clock.now()
        const nextAt = nextRotation(policy.when, secret, rotatedAt)
        if (
          target === undefined ||
          target.policy !== policy.rotation ||
          (target.nextAt !== nextAt && target.rotatedAt === rotatedAt)
        ) {
          await rotations.putTarget({
            ...secret,
            policy: policy.rotation,
            rotatedAt,
            nextAt,
            paused: target?.paused ?? null,
          })
        }
      }
    }
    for (const [key, target] of known) if (!covered.has(key)) await rotations.removeTarget(target)
  }

  /** @param reason why, for the record. @throws DeputyError `rotation_not_possible` */
  async begin(secret: RotatedSecret, reason: string): Promise<Rotation> {
    const policy = this.policyFor(secret)
    if (policy === undefined)
      throw refuse('rotation_not_possible', {
        problem: `no rotation policy covers the secret ${secret.secret} of ${secret.tenant}`,
      })
    const now = this.#options.clock.now()
    const rotation: Rotation = {
      tenant: secret.tenant,
      backend: secret.backend,
      secret: secret.secret,
      id: randomUUID(),
      policy: policy.rotation,
      rotator: policy.how.rotator,
      target: null,
      reason,
      step: 'planned',
      state: 'running',
      oldVersion: null,
      newVersion: null,
      problem: null,
      turnedBack: null,
      attempts: 0,
      nextAt: now,
      graceUntil: null,
      startedAt: now,
      endedAt: null,
      owner: null,
      revision: 0,
    }
    if (!(await this.#options.rotations.begin(rotation)))
      throw refuse('rotation_not_possible', {
        problem: `a rotation of the secret ${secret.secret} of ${secret.tenant} is under way`,
      })
    return rotation
  }

  async tick(): Promise<void> {
    while (await this.#tick()) {
      /* as long as there is more than fits */
    }
  }

  /** @returns whether there is more */
  async #tick(): Promise<boolean> {
    const { rotations, clock, logger } = this.#options
    const now = clock.now()
    if (this.#closed) return false
    const targets = await rotations.dueTargets(now, AT_ONCE)
    await Promise.all(
      targets.map(async (target) => {
        // Postponed first: the next query sees it under way, or planned again.
        await rotations.putTarget({ ...target, nextAt: now + AFTER_ROLL_BACK_MS })
        await this.begin(target, 'schedule').catch((error: unknown) => {
          logger.warn(
            { err: error, tenant: target.tenant, secret: target.secret },
            'a rotation that is due could not begin',
          )
        })
      }),
    )
    // Whole milliseconds: Postgres takes no others. A clock that is set back makes nothing wait that is under way; by the clock it begins when the clock says so.
    const steady = Math.max(now, Math.floor(this.#origin + this.#options.monotonic()))
    // Where no other node can be at work, a foreign claim is that of a process that has ended.
    const due = (await rotations.due(steady, AT_ONCE, this.#options.shared ? now : Number.MAX_SAFE_INTEGER)).filter(
      ({ id }) => !this.#taken.has(id),
    )
    let taken = 0
    for (const rotation of due) {
      if (this.#closed) return false
      if (await this.#take(rotation)) taken += 1
    }
    return taken > 0 && (targets.length === AT_ONCE || due.length === AT_ONCE)
  }

  /** Begins to work on it as soon as its target has room. @returns false where no policy says how */
  async #take(rotation: Rotation): Promise<boolean> {
    const policy = this.policyFor(rotation)
    if (policy === undefined) {
      this.#options.logger.warn(
        { rotation: rotation.id, secret: rotation.secret },
        'no policy covers an open rotation; it waits for one',
      )
      return false
    }
    const where = this.#options.targetOf(policy, rotation)
    let here = this.#underWay.get(where)
    if (here === undefined) this.#underWay.set(where, (here = new Set()))
    while (here.size >= policy.concurrency * UNDER_WAY_PER_TURN) await Promise.race(here)
    this.#taken.add(rotation.id)
    const work: Promise<void> = this.#advance(rotation, policy).finally(() => {
      here.delete(work)
      this.#taken.delete(rotation.id)
    })
    here.add(work)
    return true
  }

  async #advance(rotation: Rotation, policy: RotationPolicy): Promise<void> {
    try {
      const after = await this.#options.engine.advance(rotation, policy)
      if (after?.endedAt != null) await this.#ended(after, policy)
      if (after !== undefined && (after.endedAt !== null || (after.state === 'stuck' && rotation.state !== 'stuck')))
        await this.#options.notify(after, policy)
    } catch (error) {
      this.#options.logger.warn(
        { err: error, rotation: rotation.id },
        'work on a rotation failed; retrying when its claim is over',
      )
    }
  }

  async #ended(rotation: Rotation, policy: RotationPolicy): Promise<void> {
    const { rotations, clock } = this.#options
    const target = await rotations.target(rotation)
    if (target === undefined) return
    const now = clock.now()
    const rotatedAt = rotation.state === 'done' ? now : target.rotatedAt
    const nextAt = rotation.state === 'done' ? nextRotation(policy.when, rotation, now) : now + AFTER_ROLL_BACK_MS
    await rotations.putTarget({ ...target, rotatedAt, nextAt })
  }
}
