import type { Clock } from '#clock'
import type { RotationPolicy } from '#config'
import type { StagedSecrets } from '#credentials/secret'
import { DeputyError, reasonForAdmins, refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import type { Envelope } from '#foundation/crypto'
import type { RotatedSecret, Rotation, RotationStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { actAfter, type OpenStep, type Work } from './acts.ts'
import { adopt } from './adopt.ts'
import { decide, isBack } from './decide.ts'
import { createGraces } from './grace.ts'
import { handedOut } from './handed-out.ts'
import { createJournal } from './journal.ts'
import { openValues, type RotationValues } from './values.ts'
import { NeedsPerson, NothingLeft } from './needs-person.ts'
import type { Rotator } from './rotator.ts'
import { standingOf } from './standing.ts'

export interface EngineOptions {
  readonly rotations: RotationStore
  readonly envelope: Envelope
  readonly backendOf: (id: string) => StagedSecrets | undefined
  readonly rotatorOf: (policy: RotationPolicy, secret: RotatedSecret) => Rotator
  /** Whether a caller may still use a version that a rotation in its grace has replaced. */
  readonly isCheckedOut: (rotation: Rotation, version: string) => Promise<boolean>
  /** Called when another version has become the one that is handed out. */
  readonly changed: (secret: RotatedSecret) => void
  readonly audit: AuditLog
  readonly clock: Clock
  /** ms, never going back. */
  readonly monotonic: () => number
  readonly logger: Logger
  /** Who this process is among those that share the store. */
  readonly owner: string
  /** Tests end the process at one of `FORWARD_POINTS` or `BACK_POINTS`. */
  readonly at?: (point: string) => Promise<void> | void
}

const NOTHING: RotationValues = { old: undefined, atTarget: undefined, next: undefined }

const isConflict = (error: unknown): error is DeputyError => error instanceof DeputyError && error.code === 'conflict'
/** Another node has written: the rotation is its own now. */
const isTaken = (error: unknown): boolean => isConflict(error) && error.facts['what'] === 'rotation'
const notPossible = (problem: string): DeputyError => refuse('rotation_not_possible', { problem })

/**
 * Takes rotations along their way (`acts.ts`). One rule holds for each step: what is handed out works at the target before the
 * other one is ended, and `done` means that the old one was refused. An act begins only after the step before it is written
 * down; the decision to go back is such a step, and no act that follows it leads forward.
 */
export const createRotationEngine = (options: EngineOptions) => {
  const { rotations, envelope, clock } = options
  const graces = createGraces(options)
  const journal = createJournal({ ...options, nextLook: graces.nextLook })

  const backendOf = (rotation: Rotation): StagedSecrets => {
    const backend = options.backendOf(rotation.backend)
    if (backend === undefined) throw notPossible(`the backend ${rotation.backend} is not in deputy.yaml`)
    return backend
  }

  /** What it keeps; of one that has just begun, nothing yet. @throws NeedsPerson, NothingLeft */
  const valuesOf = async ({
    rotation,
    policy,
    rotator,
    backend,
  }: Omit<Work, 'values' | 'changed'>): Promise<RotationValues> => {
    if (rotation.step === 'planned') return NOTHING
    const sealed = await rotations.sealedOf(rotation.id)
    // One that was turned back before its plan was kept has nothing to end.
    if (sealed === null) return rotation.target === null && isBack(rotation.step) ? NOTHING : adopt(rotation, backend)
    if (rotation.target !== rotator.target || rotation.rotator !== policy.how.rotator)
      throw new NeedsPerson(
        `it works at ${rotation.rotator} ${rotation.target}, and its policy names ${policy.how.rotator} ${rotator.target} by now: put the policy back until the rotation has ended`,
      )
    try {
      return await openValues(envelope, rotation, sealed)
    } catch (error) {
      if (!(error instanceof DeputyError && error.code === 'secret_unreadable')) throw error
      const problem = 'what it keeps can no longer be read, so that it cannot tell which value to end'
      // Of a tenant that was destroyed nothing is handed out any more.
      if ((await backend.find(rotation.tenant, rotation.secret, 'current')) === undefined)
        throw new NothingLeft(problem)
      throw new NeedsPerson(problem)
    }
  }

  const workOn = async (rotation: Rotation, policy: RotationPolicy): Promise<Work> => {
    const backend = backendOf(rotation)
    const rotator = options.rotatorOf(policy, rotation)
    const values = await valuesOf({ rotation, policy, rotator, backend })
    return { rotation, policy, rotator, backend, values, changed: options.changed }
  }

  /** How it stands while it waits for the end of its grace; undefined when it waits no more. */
  const waiting = async ({ rotation, policy, values }: Work): Promise<Rotation | undefined> => {
    if (rotation.state !== 'grace') return undefined
    if (rotation.nextAt > clock.now() && graces.left(rotation) > 0) return rotation
    const versions = new Set([rotation.oldVersion, values.old?.version ?? null])
    const isCheckedOut = async (): Promise<boolean> => {
      for (const version of versions)
        if (version !== null && (await options.isCheckedOut(rotation, version))) return true
      return false
    }
    if (await graces.isOver(rotation, policy, isCheckedOut)) return undefined
    return journal.write(rotation, { nextAt: graces.nextLook(clock.now() + graces.left(rotation), policy) })
  }

  const recover = async (work: Work, error: unknown): Promise<Rotation> => {
    const { rotation, policy } = work
    const { id, tenant, secret, step } = rotation
    const problem = reasonForAdmins(error)
    options.logger.warn({ rotation: id, tenant, secret, step, problem }, 'an act of a rotation failed')
    if (error instanceof NeedsPerson) return journal.callPerson(rotation, policy, problem)
    const exhausted = rotation.attempts + 1 > policy.on_failure.retry
    return journal.follow(rotation, policy, decide(await standingOf(work, exhausted)), problem)
  }

  /** One act, or what follows from its failure. @returns the work that is left */
  const act = async (work: Work): Promise<Work> => {
    const { name, run } = actAfter(work.rotation.step as OpenStep, work.rotator)
    try {
      await options.at?.(`before ${name}`)
      const outcome = await run(work)
      await options.at?.(`after ${name}`)
      return { ...work, rotation: await journal.noted(work, outcome), values: outcome.values ?? work.values }
    } catch (error) {
      if (isTaken(error)) throw error
      return { ...work, rotation: await recover(work, error) }
    }
  }

  const goOn = async (rotation: Rotation, policy: RotationPolicy): Promise<Rotation> => {
    let work
    try {
      work = await workOn(rotation, policy)
    } catch (error) {
      if (error instanceof NothingLeft) return journal.end(rotation, 'rolled_back', { problem: error.message })
      if (error instanceof NeedsPerson) return journal.callPerson(rotation, policy, error.message)
      if (isTaken(error)) throw error
      const isExhausted = rotation.attempts + 1 > policy.on_failure.retry
      const decision = isExhausted
        ? ({ do: 'call', why: 'it cannot be taken on' } as const)
        : ({ do: 'again' } as const)
      return journal.follow(rotation, policy, decision, reasonForAdmins(error))
    }
    while (work.rotation.endedAt === null) {
      const waits = await waiting(work)
      if (waits !== undefined) return waits
      if (work.rotation.state === 'grace')
        work = { ...work, rotation: await journal.write(work.rotation, { state: 'running' }) }
      work = await act(work)
      if (work.rotation.nextAt > clock.now() && work.rotation.state !== 'grace') return work.rotation
    }
    return work.rotation
  }

  /** @throws DeputyError `rotation_not_possible` unless what is handed out stays, and works */
  const expectWayBack = async ({ rotation, rotator, backend, values }: Work): Promise<void> => {
    const { is, version } = await handedOut(backend, rotation, values)
    if (is === 'new') throw notPossible('the new one is handed out already; begin another rotation instead')
    if (rotator.generatedByTarget === true && values.next !== undefined)
      throw notPossible('the target has chosen the new one already, so that there is no way back')
    if (version === undefined) {
      if (values.old !== undefined) throw notPossible('the backend has no current version that could stay: set one')
      return
    }
    const said = await rotator.login(version.value).catch(() => 'unknown')
    if (said !== 'works')
      throw notPossible(
        said === 'refused'
          ? 'the target refuses the one that is handed out now'
          : 'the target cannot be asked whether the one that is handed out now works',
      )
  }

  return {
    /** Takes a rotation as far as it goes now. @returns how it stands; undefined when another node works on it */
    async advance(found: Rotation, policy: RotationPolicy): Promise<Rotation | undefined> {
      try {
        return await goOn(await journal.write(found, {}), policy)
      } catch (error) {
        if (isConflict(error)) return undefined
        throw error
      }
    },

    /**
     * Turns a rotation back by hand, if what is handed out stays and the target accepts it. Where an act may be under way elsewhere
     * it goes back when that must have ended.
     * @throws DeputyError `rotation_not_possible`, `conflict`
     */
    async rollBack(found: Rotation, policy: RotationPolicy, by: string): Promise<Rotation> {
      if (isBack(found.step)) return found
      try {
        await expectWayBack(await workOn(found, policy))
      } catch (error) {
        if (error instanceof NeedsPerson || error instanceof NothingLeft) throw notPossible(error.message)
        throw error
      }
      const busy = found.owner !== null && found.owner.until > clock.now() ? found.owner.until : undefined
      const turned = await journal.turnBack(found, `rolled back by ${by}`, busy)
      return busy === undefined ? goOn(turned, policy) : turned
    },

    /** Has a rotation that waits, because an act has failed or a person is needed, tried again now. @throws DeputyError `conflict` */
    retry: (found: Rotation): Promise<Rotation> =>
      found.owner !== null && found.owner.until > clock.now()
        ? Promise.resolve(found)
        : journal.write(found, { attempts: 0, nextAt: clock.now() }),
  }
}
export type RotationEngine = ReturnType<typeof createRotationEngine>
