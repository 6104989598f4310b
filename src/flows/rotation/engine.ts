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
import { createGraces, type Graces } from './grace.ts'
import { handedOut } from './handed-out.ts'
import { Journal } from './journal.ts'
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
  /** Name of this process among those that share the store. */
  readonly owner: string
  /** Tests end the process at one of `FORWARD_POINTS` or `BACK_POINTS`. */
  readonly at?: (point: string) => Promise<void> | void
}

const NO_VALUES: RotationValues = { old: undefined, atTarget: undefined, next: undefined }

const isConflict = (error: unknown): error is DeputyError => error instanceof DeputyError && error.code === 'conflict'
/** Another node has written the rotation, and works on it now. */
const isTaken = (error: unknown): boolean => isConflict(error) && error.facts['what'] === 'rotation'
const notPossible = (problem: string): DeputyError => refuse('rotation_not_possible', { problem })

/**
 * Takes rotations along their way (`acts.ts`). One rule holds for each step: the secret that is handed out works at the target
 * before the other one is ended, and `done` means that the old one was refused. An act begins only after the step before it is
 * written down; the decision to go back is such a step, and no act that follows it leads forward.
 */
export class RotationEngine {
  readonly #options: EngineOptions
  readonly #graces: Graces
  readonly #journal: Journal

  constructor(options: EngineOptions) {
    this.#options = options
    this.#graces = createGraces(options)
    this.#journal = new Journal({ ...options, nextLook: this.#graces.nextLook })
  }

  /** Takes a rotation as far as it goes now. @returns its new state; undefined when another node works on it */
  async advance(found: Rotation, policy: RotationPolicy): Promise<Rotation | undefined> {
    try {
      return await this.#continue(await this.#journal.write(found, {}), policy)
    } catch (error) {
      if (isConflict(error)) return undefined
      throw error
    }
  }

  /**
   * Turns a rotation back by hand, if the secret that is handed out stays and the target accepts it. Where an act may be under way
   * on another node, it goes back when that act must have ended.
   * @throws DeputyError `rotation_not_possible`, `conflict`
   */
  async rollBack(found: Rotation, policy: RotationPolicy, by: string): Promise<Rotation> {
    if (isBack(found.step)) return found
    try {
      await expectWayBack(await this.#workOn(found, policy))
    } catch (error) {
      if (error instanceof NeedsPerson || error instanceof NothingLeft) throw notPossible(error.message)
      throw error
    }
    const busyUntil = this.#busyUntil(found)
    const turned = await this.#journal.turnBack(found, `rolled back by ${by}`, busyUntil)
    return busyUntil === undefined ? this.#continue(turned, policy) : turned
  }

  /** Retries now a rotation that waits because an act has failed or a person is needed. @throws DeputyError `conflict` */
  async retry(found: Rotation): Promise<Rotation> {
    return this.#busyUntil(found) === undefined
      ? this.#journal.write(found, { attempts: 0, nextAt: this.#options.clock.now() })
      : found
  }

  /** Until when another node's claim lasts (ms since the epoch). */
  #busyUntil({ owner }: Rotation): number | undefined {
    return owner !== null && owner.until > this.#options.clock.now() ? owner.until : undefined
  }

  /** Runs act after act until the rotation ends or waits. */
  async #continue(rotation: Rotation, policy: RotationPolicy): Promise<Rotation> {
    let work: Work
    try {
      work = await this.#workOn(rotation, policy)
    } catch (error) {
      return this.#notWorkable(rotation, policy, error)
    }
    while (work.rotation.endedAt === null) {
      const waits = await this.#waiting(work)
      if (waits !== undefined) return waits
      if (work.rotation.state === 'grace')
        work = { ...work, rotation: await this.#journal.write(work.rotation, { state: 'running' }) }
      work = await this.#act(work)
      if (work.rotation.nextAt > this.#options.clock.now() && work.rotation.state !== 'grace') return work.rotation
    }
    return work.rotation
  }

  async #workOn(rotation: Rotation, policy: RotationPolicy): Promise<Work> {
    const backend = this.#options.backendOf(rotation.backend)
    if (backend === undefined) throw notPossible(`the backend ${rotation.backend} is not in deputy.yaml`)
    const rotator = this.#options.rotatorOf(policy, rotation)
    const values = await this.#valuesOf({ rotation, policy, rotator, backend })
    return { rotation, policy, rotator, backend, values, changed: this.#options.changed }
  }

  /** The values of a rotation; of one that has just begun, none yet. @throws NeedsPerson, NothingLeft */
  async #valuesOf(work: Omit<Work, 'values' | 'changed'>): Promise<RotationValues> {
    const { rotation, policy, rotator, backend } = work
    if (rotation.step === 'planned') return NO_VALUES
    const sealed = await this.#options.rotations.sealedOf(rotation.id)
    // A rotation that was turned back before its plan was stored has nothing to end.
    if (sealed === null) return rotation.target === null && isBack(rotation.step) ? NO_VALUES : adopt(rotation, backend)
    if (rotation.target !== rotator.target || rotation.rotator !== policy.how.rotator)
      throw new NeedsPerson(
        `it works at ${rotation.rotator} ${rotation.target}, and its policy names ${policy.how.rotator} ${rotator.target} by now: put the policy back until the rotation has ended`,
      )
    try {
      return await openValues(this.#options.envelope, rotation, sealed)
    } catch (error) {
      if (!(error instanceof DeputyError && error.code === 'secret_unreadable')) throw error
      const problem = 'its stored values can no longer be read, so that it cannot tell which value to end'
      // A tenant that was destroyed has no secret that is handed out.
      if ((await backend.find(rotation.tenant, rotation.secret, 'current')) === undefined)
        throw new NothingLeft(problem)
      throw new NeedsPerson(problem)
    }
  }

  /** What follows where the rotation cannot be worked on. */
  async #notWorkable(rotation: Rotation, policy: RotationPolicy, error: unknown): Promise<Rotation> {
    if (error instanceof NothingLeft) return this.#journal.end(rotation, 'rolled_back', { problem: error.message })
    if (error instanceof NeedsPerson) return this.#journal.callPerson(rotation, policy, error.message)
    if (isTaken(error)) throw error
    const decision = this.#isExhausted(rotation, policy)
      ? ({ do: 'call', why: 'it cannot be taken on' } as const)
      : ({ do: 'again' } as const)
    return this.#journal.follow(rotation, policy, decision, reasonForAdmins(error))
  }

  /** @returns the rotation while it waits for the end of its grace; undefined when it does not wait */
  async #waiting({ rotation, policy, values }: Work): Promise<Rotation | undefined> {
    if (rotation.state !== 'grace') return undefined
    const { clock } = this.#options
    if (rotation.nextAt > clock.now() && this.#graces.left(rotation) > 0) return rotation
    const versions = new Set([rotation.oldVersion, values.old?.version ?? null])
    const isCheckedOut = async (): Promise<boolean> => {
      for (const version of versions)
        if (version !== null && (await this.#options.isCheckedOut(rotation, version))) return true
      return false
    }
    if (await this.#graces.isOver(rotation, policy, isCheckedOut)) return undefined
    const nextAt = this.#graces.nextLook(clock.now() + this.#graces.left(rotation), policy)
    return this.#journal.write(rotation, { nextAt })
  }

  /** One act, or what follows from its failure. @returns the work that is left */
  async #act(work: Work): Promise<Work> {
    const { name, run } = actAfter(work.rotation.step as OpenStep, work.rotator)
    try {
      await this.#options.at?.(`before ${name}`)
      const outcome = await run(work)
      await this.#options.at?.(`after ${name}`)
      return { ...work, rotation: await this.#journal.noted(work, outcome), values: outcome.values ?? work.values }
    } catch (error) {
      if (isTaken(error)) throw error
      return { ...work, rotation: await this.#recover(work, error) }
    }
  }

  async #recover(work: Work, error: unknown): Promise<Rotation> {
    const { rotation, policy } = work
    const { id, tenant, secret, step } = rotation
    const problem = reasonForAdmins(error)
    this.#options.logger.warn({ rotation: id, tenant, secret, step, problem }, 'an act of a rotation failed')
    if (error instanceof NeedsPerson) return this.#journal.callPerson(rotation, policy, problem)
    const standing = await standingOf(work, this.#isExhausted(rotation, policy))
    return this.#journal.follow(rotation, policy, decide(standing), problem)
  }

  #isExhausted({ attempts }: Rotation, policy: RotationPolicy): boolean {
    return attempts + 1 > policy.on_failure.retry
  }
}

export const createRotationEngine = (options: EngineOptions): RotationEngine => new RotationEngine(options)

/** @throws DeputyError `rotation_not_possible` unless the secret that is handed out stays, and works */
const expectWayBack = async ({ rotation, rotator, backend, values }: Work): Promise<void> => {
  const { is, version } = await handedOut(backend, rotation, values)
  if (is === 'new') throw notPossible('the new one is handed out already; begin another rotation instead')
  if (rotator.generatedByTarget === true && values.next !== undefined)
    throw notPossible('the target has chosen the new one already, so that there is no way back')
  if (version === undefined) {
    if (values.old !== undefined) throw notPossible('the backend has no current version that could stay: set one')
    return
  }
  const login = await rotator.login(version.value).catch(() => 'unknown')
  if (login !== 'works')
    throw notPossible(
      login === 'refused'
        ? 'the target refuses the one that is handed out now'
        : 'the target cannot be asked whether the one that is handed out now works',
    )
}
