import type { Clock } from '#clock'
import type { RotationPolicy } from '#config'
import type { AuditLog } from '#foundation/audit'
import type { Envelope } from '#foundation/crypto'
import type { Rotation, RotationStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { Outcome, Work } from './acts.ts'
import { isBack, type Decision } from './decide.ts'
import { sealValues } from './values.ts'

/** How long an act may take before another node may take the rotation over (ms). */
const CLAIM_MS = 30_000
const FIRST_PAUSE_MS = 2000
const MAX_PAUSE_MS = 900_000
/** How often a stuck rotation looks whether a person has resolved its problem (ms). */
const STUCK_PAUSE_MS = 300_000

const pauseAfter = (attempts: number): number => Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempts)

export interface JournalOptions {
  readonly rotations: RotationStore
  readonly envelope: Envelope
  readonly audit: AuditLog
  readonly clock: Clock
  readonly logger: Logger
  readonly owner: string
  /** When a grace that ends then is looked at next (ms since the epoch). */
  readonly nextLook: (graceUntil: number, policy: RotationPolicy) => number
}

/** The change that an act's outcome makes to its rotation. It clears the problem of earlier attempts. */
const changeAfter = ({ rotation }: Work, { step, versions }: Outcome): Partial<Rotation> => {
  // Only a login shows whether a change at the target has worked: until then the attempts are counted on.
  const isUntried = step === 'applied' || step === 'chosen' || step === 'retired'
  const staysStuck = isUntried && rotation.state === 'stuck'
  const state = isBack(step) ? 'going_back' : 'running'
  return {
    ...versions,
    step,
    state: staysStuck ? 'stuck' : state,
    attempts: isUntried ? rotation.attempts : 0,
    problem: staysStuck ? rotation.problem : null,
  }
}

/**
 * The writes of a rotation: each names the revision that it has read, so that of two nodes one continues. A write without a
 * time to come back claims the rotation for the next act; one with a time releases it.
 */
export class Journal {
  readonly #options: JournalOptions

  constructor(options: JournalOptions) {
    this.#options = options
  }

  /** @throws DeputyError `conflict` when another node has written the rotation since it was read */
  write(rotation: Rotation, change: Partial<Rotation>, sealed?: Uint8Array | null): Promise<Rotation> {
    const { rotations, clock, owner } = this.#options
    const isClaim = change.endedAt == null && change.nextAt === undefined
    const claim = isClaim
      ? { nextAt: clock.now(), owner: { id: owner, until: clock.now() + CLAIM_MS } }
      : { owner: null }
    return rotations.update({ ...rotation, ...change, ...claim }, sealed)
  }

  /** Ends a rotation and wipes its values. The audit record comes first: a kill in between records it twice rather than never. */
  async end(
    rotation: Rotation,
    state: 'done' | 'rolled_back',
    change: Pick<Partial<Rotation>, 'step' | 'problem'>,
  ): Promise<Rotation> {
    const problem = state === 'done' ? null : (change.problem ?? rotation.turnedBack)
    const detail =
      state === 'done' ? { old_version: rotation.oldVersion, new_version: rotation.newVersion } : { problem }
    await this.#record({ ...rotation, ...change }, state === 'done' ? 'done' : 'failed', { state, ...detail })
    const now = this.#options.clock.now()
    return this.write(rotation, { ...change, state, problem, endedAt: now, nextAt: now }, null)
  }

  /** An act has succeeded. */
  async noted(work: Work, outcome: Outcome): Promise<Rotation> {
    const { rotation, policy, rotator } = work
    const { step, values } = outcome
    if (step === 'done') return this.end(rotation, 'done', { step })
    if (step === 'gone_back') return this.end(rotation, 'rolled_back', { step })
    const change = changeAfter(work, outcome)
    if (values !== undefined) {
      const planned = { ...rotation, target: rotator.target }
      return this.write(planned, change, await sealValues(this.#options.envelope, planned, values))
    }
    if (step !== 'promoted') return this.write(rotation, change)
    const grace = rotator.supportsDualSecrets && work.values.old !== undefined ? policy.grace : 0
    const graceUntil = this.#options.clock.now() + grace
    const nextAt = this.#options.nextLook(graceUntil, policy)
    return this.write(rotation, { ...change, state: 'grace', graceUntil, nextAt })
  }

  /** The rotation needs a person; it looks from time to time whether the problem is resolved. */
  async callPerson(rotation: Rotation, policy: RotationPolicy, problem: string): Promise<Rotation> {
    const { clock, logger } = this.#options
    const { id, tenant, secret, attempts } = rotation
    if (rotation.state !== 'stuck') {
      const facts = { rotation: id, tenant, secret, owner: policy.owner, problem }
      logger.error(facts, 'a rotation needs a person')
      await this.#record(rotation, 'failed', { state: 'stuck', problem })
    }
    const nextAt = clock.now() + STUCK_PAUSE_MS
    return this.write(rotation, { attempts: attempts + 1, problem, state: 'stuck', nextAt })
  }

  /** From here only the way back is left, and that is durable before its first act. */
  turnBack(rotation: Rotation, why: string, nextAt?: number): Promise<Rotation> {
    return this.write(rotation, {
      step: 'going_back',
      state: 'going_back',
      attempts: 0,
      turnedBack: why,
      problem: null,
      ...(nextAt === undefined ? {} : { nextAt }),
    })
  }

  /** Carries out the decision that follows a failure. */
  follow(rotation: Rotation, policy: RotationPolicy, decision: Decision, problem: string): Promise<Rotation> {
    const attempts = rotation.attempts + 1
    switch (decision.do) {
      case 'again': {
        const nextAt = this.#options.clock.now() + pauseAfter(attempts)
        return this.write(rotation, { attempts, problem, nextAt, step: decision.from ?? rotation.step })
      }
      case 'forward':
        return this.write(rotation, { step: decision.to, state: 'running', attempts, problem: null })
      case 'call':
        return this.callPerson(
          { ...rotation, step: decision.from ?? rotation.step },
          policy,
          `${problem}; ${decision.why}`,
        )
      case 'back':
        return this.turnBack(rotation, problem)
    }
  }

  #record(rotation: Rotation, outcome: 'done' | 'failed', detail: object): Promise<void> {
    const { id, tenant, secret, backend, policy, rotator, reason, step } = rotation
    const facts = { secret, backend, policy, rotator, reason, step }
    return this.#options.audit.append({ id, event: 'secret.rotate', outcome, tenant, detail: { ...facts, ...detail } })
  }
}
