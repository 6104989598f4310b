import type { AuditLog } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { DeputyError, refuse } from '../errors.ts'
import type { Logger } from '../observe/logger.ts'
import type { SecretVersion, StagedSecrets } from '../secret/backend.ts'
import type { RotatedSecret, Rotation, RotationStore } from '../store/records/rotations.ts'
import { endsEarly, type RotationPolicy } from '../config/rotation-policy.ts'
import { createGraces } from './grace.ts'
import type { AskingRotator, Login, Rotator } from './rotator.ts'

/**
 * Moments at which a kill must do no harm: before and after each thing that is done outside of this process. Crash tests
 * go through this list, so a step that is added here is tested.
 */
export const FAULT_POINTS = [
  'before staging',
  'after staging',
  'before applying',
  'after applying',
  'after verifying',
  'before promoting',
  'after promoting',
  'before retiring',
  'after retiring',
  'before proving',
  'after proving',
  'before forgetting',
  'after forgetting',
  'before going back',
  'after going back',
] as const
export type FaultPoint = (typeof FAULT_POINTS)[number]

export interface EngineOptions {
  readonly rotations: RotationStore
  readonly backendOf: (id: string) => StagedSecrets | undefined
  readonly rotatorOf: (policy: RotationPolicy, secret: RotatedSecret) => Rotator
  /** Whether somebody may still use the old version of a rotation in its grace. */
  readonly isHeld: (rotation: Rotation) => Promise<boolean>
  /** Called when another version has become the one that is handed out. */
  readonly changed: (secret: RotatedSecret) => void
  readonly audit: AuditLog
  readonly clock: Clock
  /** ms, never going back. */
  readonly monotonic: () => number
  readonly logger: Logger
  /** Who this process is among those that share the store. */
  readonly owner: string
  /** Tests end the process here. */
  readonly at?: (point: FaultPoint) => Promise<void> | void
}

/** How long a step may take before another node may take the rotation over (ms). */
const CLAIM = 30_000
const FIRST_PAUSE = 2000
const LONGEST_PAUSE = 900_000
/** How often is looked during a grace whether all have moved: at this part of it, and not more often than this (ms). */
const GRACE_LOOKS = 60
const SHORTEST_LOOK = 1000
/** How often a stuck rotation looks whether somebody has put it right (ms). */
const STUCK_PAUSE = 300_000

const wordsOf = (error: unknown): string =>
  (error instanceof DeputyError ? error.message : (error as Error).message).slice(0, 300)

/** What both versions are at the target: `unknown` when it cannot be asked. */
type Said = Login | 'unknown' | 'absent'

interface Work {
  readonly policy: RotationPolicy
  readonly rotator: Rotator
  readonly backend: StagedSecrets
}

/**
 * The line of a rotation. Each step is done, then written down, and may be done again:
 *
 * - staged: the new value is durable as pending, before anything else knows of it (threat 28); where the target chooses it,
 *   and keeps it, it is staged with the next step;
 * - applied: the target accepts it;
 * - verified: a login with it has worked;
 * - promoted: it is what is handed out; the old one has a time of grace;
 * - retired: the target was told to refuse the old one;
 * - done: a login with the old one was refused, and the new one still works.
 *
 * When a step fails, the target says how it goes on: where the new one works, forward; where only the old one works, another
 * attempt, and in the end back; where neither works, forward again, and a person is called. Where the target cannot be asked
 * nothing is decided.
 */
export const createRotationEngine = (options: EngineOptions) => {
  const { rotations, clock } = options
  const graces = createGraces(options)
  const reach = async (point: FaultPoint): Promise<void> => {
    await options.at?.(point)
  }

  const write = (rotation: Rotation, change: Partial<Rotation>): Promise<Rotation> =>
    rotations.update({
      ...rotation,
      ...change,
      owner:
        change.endedAt == null && change.nextAt === undefined
          ? { id: options.owner, until: clock.now() + CLAIM }
          : null,
    })

  /** A step that is done wipes what went wrong before it. */
  const stepped = (rotation: Rotation, step: Rotation['step'], more: Partial<Rotation> = {}): Promise<Rotation> =>
    write(rotation, { step, state: 'running', attempts: 0, problem: null, ...more })

  const record = (rotation: Rotation, outcome: 'done' | 'failed', detail: object): Promise<void> =>
    options.audit.append({
      id: rotation.id,
      event: 'secret.rotate',
      outcome,
      tenant: rotation.tenant,
      detail: {
        secret: rotation.secret,
        backend: rotation.backend,
        policy: rotation.policy,
        rotator: rotation.rotator,
        reason: rotation.reason,
        step: rotation.step,
        ...detail,
      },
    })

  const ask = async (rotator: Rotator, version: SecretVersion | undefined): Promise<Said> => {
    if (version === undefined) return 'absent'
    try {
      return await rotator.login(version.value)
    } catch {
      return 'unknown'
    }
  }

  const end = async (rotation: Rotation, state: 'done' | 'rolled_back', detail: object): Promise<Rotation> => {
    // Recorded first: a kill in between records it twice rather than never.
    await record(rotation, state === 'done' ? 'done' : 'failed', { state, ...detail })
    const now = clock.now()
    return write(rotation, { step: state === 'done' ? 'done' : rotation.step, state, endedAt: now, nextAt: now })
  }

  const steps: Readonly<
    Record<Exclude<Rotation['step'], 'done'>, (rotation: Rotation, work: Work) => Promise<Rotation>>
  > = {
    async planned(rotation, { rotator, backend }) {
      const current = await backend.find(rotation.tenant, rotation.secret, 'current')
      if (rotator.chosenThere === true) {
        await rotator.check?.(current?.value)
        return stepped(rotation, 'staged', { oldVersion: current?.version ?? null })
      }
      const next = await rotator.next(current?.value)
      await rotator.check?.(current?.value, next)
      await reach('before staging')
      // Of an earlier attempt under this rotation's id, the value of then counts.
      const pending = await backend.stage(rotation.tenant, rotation.secret, next, rotation.id)
      await reach('after staging')
      return stepped(rotation, 'staged', { oldVersion: current?.version ?? null, newVersion: pending.version })
    },
    async staged(rotation, { rotator, backend }) {
      if (rotator.chosenThere === true) return chosen(rotation, rotator, backend)
      const [current, pending] = await versionsOf(rotation, backend)
      await reach('before applying')
      await rotator.apply(current?.value, pending.value)
      await reach('after applying')
      // Only a login tells whether that was worth anything: the attempts go on being counted.
      return stepped(rotation, 'applied', { attempts: rotation.attempts })
    },
    async applied(rotation, { rotator, backend }) {
      const [, pending] = await versionsOf(rotation, backend)
      // A target that says yes and does nothing is caught here.
      if ((await rotator.login(pending.value)) === 'refused')
        throw new Error('the target took the change and refuses the new one')
      await reach('after verifying')
      return stepped(rotation, 'verified')
    },
    async verified(rotation, { policy, rotator, backend }) {
      await reach('before promoting')
      await backend.promote(rotation.tenant, rotation.secret, rotation.newVersion!)
      await reach('after promoting')
      options.changed(rotation)
      const now = clock.now()
      const grace = rotator.keepsOld && rotation.oldVersion !== null ? policy.grace : 0
      return stepped(rotation, 'promoted', {
        state: 'grace',
        graceUntil: now + grace,
        nextAt: nextLook(now, now + grace, policy),
      })
    },
    async promoted(rotation, { rotator, backend }) {
      const [old, current] = await afterPromotion(rotation, backend)
      await reach('before retiring')
      if (old !== undefined) await rotator.retire(old.value, current.value)
      await reach('after retiring')
      return stepped(rotation, 'retired')
    },
    async retired(rotation, { rotator, backend }) {
      const [old, current] = await afterPromotion(rotation, backend)
      await reach('before proving')
      if (old !== undefined && (await rotator.login(old.value)) === 'works')
        throw new Error('the old one still works after it was retired')
      if ((await rotator.login(current.value)) === 'refused') throw new Error('the new one works no more')
      await reach('after proving')
      await reach('before forgetting')
      if (old !== undefined) await backend.retire(rotation.tenant, rotation.secret, old.version)
      await reach('after forgetting')
      return end(rotation, 'done', { old_version: rotation.oldVersion, new_version: rotation.newVersion })
    },
  }

  /** The target keeps what it has chosen: whoever is killed before it is staged asks again. */
  const chosen = async (rotation: Rotation, rotator: AskingRotator, backend: StagedSecrets): Promise<Rotation> => {
    const current = await backend.find(rotation.tenant, rotation.secret, 'current')
    await reach('before applying')
    const given = await rotator.apply(current?.value)
    await reach('after applying')
    await reach('before staging')
    const pending = await backend.stage(rotation.tenant, rotation.secret, given, rotation.id)
    await reach('after staging')
    return stepped(rotation, 'applied', { attempts: rotation.attempts, newVersion: pending.version })
  }

  /** Before the promotion: what is current and what is pending. A kill after promoting finds it done already. */
  const versionsOf = async (
    { id, tenant, secret }: Rotation,
    backend: StagedSecrets,
  ): Promise<[SecretVersion | undefined, SecretVersion]> => {
    const [current, pending] = [
      await backend.find(tenant, secret, 'current'),
      await backend.find(tenant, secret, 'pending'),
    ]
    if (pending?.token === id) return [current, pending]
    throw new Error('its pending version is gone: somebody else has changed the secret')
  }

  const afterPromotion = async (
    { id, tenant, secret, oldVersion }: Rotation,
    backend: StagedSecrets,
  ): Promise<[SecretVersion | undefined, SecretVersion]> => {
    const [old, current] = [await backend.find(tenant, secret, 'previous'), await backend.read(tenant, secret)]
    if (current.token !== id)
      throw new Error('its version is not the current one any more: somebody else has changed the secret')
    // The backend's previous one is ours only if it is the one that we have replaced.
    return [old?.version === oldVersion ? old : undefined, current]
  }

  const nextLook = (now: number, graceUntil: number, policy: RotationPolicy): number =>
    endsEarly(policy) ? Math.min(graceUntil, now + Math.max(SHORTEST_LOOK, policy.grace / GRACE_LOOKS)) : graceUntil

  /** The grace is over when its time is, or everybody who had the old one has moved. */
  const isOver = async (rotation: Rotation, policy: RotationPolicy): Promise<boolean> =>
    graces.left(rotation) <= 0 || (endsEarly(policy) && !graces.wasSet(rotation) && !(await options.isHeld(rotation)))

  const pauseAfter = (attempts: number): number => Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempts)

  /** A step has failed: what the target says decides. */
  const recover = async (rotation: Rotation, work: Work, error: unknown): Promise<Rotation> => {
    const { policy, rotator, backend } = work
    const problem = wordsOf(error)
    const attempts = rotation.attempts + 1
    options.logger.warn(
      { rotation: rotation.id, tenant: rotation.tenant, secret: rotation.secret, step: rotation.step, problem },
      'a step of a rotation failed',
    )
    const again = (more: Partial<Rotation> = {}): Promise<Rotation> =>
      write(rotation, { attempts, problem, nextAt: clock.now() + pauseAfter(attempts), ...more })
    const stuck = async (why: string): Promise<Rotation> => {
      if (rotation.state !== 'stuck') {
        options.logger.error(
          {
            rotation: rotation.id,
            tenant: rotation.tenant,
            secret: rotation.secret,
            owner: policy.owner,
            problem: `${problem}; ${why}`,
          },
          'a rotation needs a person',
        )
        await record(rotation, 'failed', { state: 'stuck', problem, why })
      }
      return write(rotation, {
        attempts,
        problem: `${problem}; ${why}`,
        state: 'stuck',
        nextAt: clock.now() + STUCK_PAUSE,
      })
    }
    const done = rotation.step === 'promoted' || rotation.step === 'retired'
    const [fresh, before] = done
      ? [await ask(rotator, await backend.find(rotation.tenant, rotation.secret, 'current')), 'absent' as const]
      : [
          await ask(rotator, await pendingOf(rotation, backend)),
          await ask(rotator, await backend.find(rotation.tenant, rotation.secret, 'current')),
        ]
    if (fresh === 'unknown' || before === 'unknown') return again()
    if (done)
      return attempts > policy.on_failure.retry && rotation.state !== 'stuck'
        ? stuck(
            fresh === 'works' ? 'the new one works, and the old one could not be ended' : 'the new one does not work',
          )
        : again()
    if (fresh === 'works' && rotation.step === 'staged') return stepped(rotation, 'applied', { attempts })
    // The new one is the only one that works: there is no way but forward, however long it takes.
    if (fresh === 'works' && before !== 'works') return again()
    if (attempts <= policy.on_failure.retry) return again(rotation.step === 'applied' ? { step: 'staged' } : {})
    if (before === 'refused') return stuck('neither the old one nor the new one works')
    if (policy.on_failure.afterwards === 'page') return stuck('the old one works')
    return goBack(rotation, work, problem)
  }

  const pendingOf = async (
    { id, tenant, secret }: Rotation,
    backend: StagedSecrets,
  ): Promise<SecretVersion | undefined> => {
    const pending = await backend.find(tenant, secret, 'pending')
    return pending?.token === id ? pending : undefined
  }

  /** The old one works, or there was none: the new one is ended at the target first, and forgotten then. */
  const goBack = async (rotation: Rotation, { rotator, backend }: Work, problem: string): Promise<Rotation> => {
    await reach('before going back')
    const pending = await pendingOf(rotation, backend)
    const current = await backend.find(rotation.tenant, rotation.secret, 'current')
    if (pending !== undefined && current !== undefined && (await rotator.login(pending.value)) === 'works')
      await rotator.retire(pending.value, current.value)
    if (pending !== undefined) await backend.discard(rotation.tenant, rotation.secret, pending.version)
    await reach('after going back')
    return end(rotation, 'rolled_back', { problem })
  }

  return {
    /** Takes a rotation as far as it goes now. @returns how it stands; undefined when another node works on it */
    async advance(found: Rotation, policy: RotationPolicy): Promise<Rotation | undefined> {
      try {
        let rotation = await write(found, {})
        const backend = options.backendOf(rotation.backend)
        if (backend === undefined)
          return await write(rotation, {
            problem: `the backend ${rotation.backend} is not in deputy.yaml`,
            nextAt: clock.now() + LONGEST_PAUSE,
          })
        const work: Work = { policy, backend, rotator: options.rotatorOf(policy, rotation) }
        while (rotation.step !== 'done' && rotation.endedAt === null) {
          if (rotation.state === 'grace' && rotation.nextAt > clock.now() && graces.left(rotation) > 0) return rotation
          if (rotation.state === 'grace' && !(await isOver(rotation, policy)))
            return await write(rotation, { nextAt: nextLook(clock.now(), clock.now() + graces.left(rotation), policy) })
          try {
            rotation = await steps[rotation.step](rotation, work)
          } catch (error) {
            if (error instanceof DeputyError && error.code === 'conflict' && error.facts['what'] === 'rotation')
              throw error
            rotation = await recover(rotation, work, error)
            if (rotation.nextAt > clock.now()) return rotation
          }
        }
        return rotation
      } catch (error) {
        // Somebody else has written: it is theirs now.
        if (error instanceof DeputyError && error.code === 'conflict') return undefined
        throw error
      }
    },

    /**
     * Goes back by hand: before the promotion, if the target still accepts the old one.
     * @throws DeputyError `rotation_not_possible`
     */
    async rollBack(found: Rotation, policy: RotationPolicy, by: string): Promise<Rotation> {
      const backend = options.backendOf(found.backend)
      const refuseIt = (problem: string): never => {
        throw refuse('rotation_not_possible', { problem })
      }
      if (backend === undefined) return refuseIt(`the backend ${found.backend} is not in deputy.yaml`)
      if (found.step === 'promoted' || found.step === 'retired')
        return refuseIt('the new one is handed out already; begin another rotation instead')
      const rotation = await write(found, {})
      const rotator = options.rotatorOf(policy, rotation)
      const before = await ask(rotator, await backend.find(rotation.tenant, rotation.secret, 'current'))
      if (before !== 'works')
        return refuseIt(
          before === 'refused'
            ? 'the target refuses the old one already'
            : 'the target cannot be asked whether the old one works',
        )
      return goBack(rotation, { policy, rotator, backend }, `rolled back by ${by}`)
    },
  }
}
