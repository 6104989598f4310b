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
const CLAIM = 30_000
const FIRST_PAUSE = 2000
const LONGEST_PAUSE = 900_000
/** How often a stuck rotation looks whether a person has put it right (ms). */
const STUCK_PAUSE = 300_000

const pauseAfter = (attempts: number): number => Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempts)

/**
 * What a rotation writes down, and when: each write names the revision that it has read, so that of two nodes one goes on. A
 * write without a time to come back claims the rotation for the next act; one with a time gives it free.
 */
export const createJournal = (options: {
  readonly rotations: RotationStore
  readonly envelope: Envelope
  readonly audit: AuditLog
  readonly clock: Clock
  readonly logger: Logger
  readonly owner: string
  /** When a grace that ends then is looked at next (ms since the epoch). */
  readonly nextLook: (graceUntil: number, policy: RotationPolicy) => number
}) => {
  const { rotations, envelope, clock, logger } = options

  const write = (rotation: Rotation, change: Partial<Rotation>, sealed?: Uint8Array | null): Promise<Rotation> => {
    const isClaim = change.endedAt == null && change.nextAt === undefined
    const claim = isClaim
      ? { nextAt: clock.now(), owner: { id: options.owner, until: clock.now() + CLAIM } }
      : { owner: null }
    return rotations.update({ ...rotation, ...change, ...claim }, sealed)
  }

  const record = (rotation: Rotation, outcome: 'done' | 'failed', detail: object): Promise<void> => {
    const { id, tenant, secret, backend, policy, rotator, reason, step } = rotation
    const facts = { secret, backend, policy, rotator, reason, step }
    return options.audit.append({ id, event: 'secret.rotate', outcome, tenant, detail: { ...facts, ...detail } })
  }

  /** What it keeps is wiped with its end. Recorded first: a kill in between records it twice rather than never. */
  const end = async (
    rotation: Rotation,
    state: 'done' | 'rolled_back',
    change: Pick<Partial<Rotation>, 'step' | 'problem'>,
  ): Promise<Rotation> => {
    const problem = state === 'done' ? null : (change.problem ?? rotation.turnedBack)
    const detail =
      state === 'done' ? { old_version: rotation.oldVersion, new_version: rotation.newVersion } : { problem }
    await record({ ...rotation, ...change }, state === 'done' ? 'done' : 'failed', { state, ...detail })
    const now = clock.now()
    return write(rotation, { ...change, state, problem, endedAt: now, nextAt: now }, null)
  }

  return {
    write,
    end,
    /** An act is done: that wipes what went wrong before it. */
    async noted(work: Work, { step, values, versions }: Outcome): Promise<Rotation> {
      const { rotation, policy, rotator } = work
      if (step === 'done') return end(rotation, 'done', { step })
      if (step === 'gone_back') return end(rotation, 'rolled_back', { step })
      // Only a login tells whether a change at the target was worth anything: until then the attempts are counted on.
      const isUntried = step === 'applied' || step === 'chosen' || step === 'retired'
      const staysStuck = isUntried && rotation.state === 'stuck'
      const state = isBack(step) ? 'going_back' : 'running'
      const change: Partial<Rotation> = {
        ...versions,
        step,
        state: staysStuck ? 'stuck' : state,
        attempts: isUntried ? rotation.attempts : 0,
        problem: staysStuck ? rotation.problem : null,
      }
      if (values !== undefined) {
        const planned = { ...rotation, target: rotator.target }
        return write(planned, change, await sealValues(envelope, planned, values))
      }
      if (step !== 'promoted') return write(rotation, change)
      const graceUntil = clock.now() + (rotator.supportsDualSecrets && work.values.old !== undefined ? policy.grace : 0)
      return write(rotation, { ...change, state: 'grace', graceUntil, nextAt: options.nextLook(graceUntil, policy) })
    },
    async callPerson(rotation: Rotation, policy: RotationPolicy, problem: string): Promise<Rotation> {
      const { id, tenant, secret, attempts } = rotation
      if (rotation.state !== 'stuck') {
        const facts = { rotation: id, tenant, secret, owner: policy.owner, problem }
        logger.error(facts, 'a rotation needs a person')
        await record(rotation, 'failed', { state: 'stuck', problem })
      }
      const nextAt = clock.now() + STUCK_PAUSE
      return write(rotation, { attempts: attempts + 1, problem, state: 'stuck', nextAt })
    },
    /** From here only the way back is left, and that is durable before its first act. */
    turnBack: (rotation: Rotation, why: string, nextAt?: number): Promise<Rotation> =>
      write(rotation, {
        step: 'going_back',
        state: 'going_back',
        attempts: 0,
        turnedBack: why,
        problem: null,
        ...(nextAt === undefined ? {} : { nextAt }),
      }),
    /** What follows from a failure. */
    follow(rotation: Rotation, policy: RotationPolicy, decision: Decision, problem: string): Promise<Rotation> {
      const attempts = rotation.attempts + 1
      switch (decision.do) {
        case 'again': {
          const nextAt = clock.now() + pauseAfter(attempts)
          return write(rotation, { attempts, problem, nextAt, step: decision.from ?? rotation.step })
        }
        case 'forward':
          return write(rotation, { step: decision.to, state: 'running', attempts, problem: null })
        case 'call':
          return this.callPerson(
            { ...rotation, step: decision.from ?? rotation.step },
            policy,
            `${problem}; ${decision.why}`,
          )
        case 'back':
          return this.turnBack(rotation, problem)
      }
    },
  }
}
export type Journal = ReturnType<typeof createJournal>
