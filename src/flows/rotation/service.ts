import type { Clock, Random } from '#clock'
import { covers, type CurrentSnapshot, endsEarly, OWN_BACKEND, type RotationPolicy } from '#config'
import type { RotationTerms } from '#credentials/connector'
import { EMBEDDED_BACKEND, type ReadSecret, type ResolveSecret, type SecretBackends } from '#credentials/secret'
import { DeputyError, refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import type { Envelope } from '#foundation/crypto'
import type { Egress } from '#foundation/outbound'
import type {
  RevocationScope,
  RotatedSecret,
  Rotation,
  RotationStore,
  RotationTarget,
  SecretHolder,
} from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { Checkouts } from './checkouts.ts'
import { createCoveredSecrets } from './covered-secrets.ts'
import { createRotationEngine, type RotationEngine } from './engine.ts'
import { type EventSubject, RotationEvents } from './events.ts'
import { createTargetLimits } from './limited.ts'
import { createRotationNotifier } from './notify.ts'
import { createRotatingSecrets } from './reading.ts'
import { type PlannedRotation, planOf, type RotationReport, reportOf } from './report.ts'
import type { Rotator } from './rotator.ts'
import { createRotators } from './rotators/create.ts'
import type { RotatedKeys } from './rotators/deputy-keys.ts'
import { RotationScheduler } from './scheduler.ts'

/** How often an order of an admin is tried while the rotation is written to concurrently. */
const MAX_ORDER_ATTEMPTS = 5
/** Rotations in their grace that are looked at for their checkouts, at most. */
const MAX_IN_GRACE = 10_000

export interface RotationDependencies {
  readonly home: string
  readonly snapshot: CurrentSnapshot
  readonly rotations: RotationStore
  readonly envelope: Envelope
  readonly backends: SecretBackends
  readonly checkouts: Pick<Checkouts, 'of'>
  readonly ownKeys: RotatedKeys & { tenants(): Promise<string[]> }
  /** Reads references without waiting for a rotation: a rotation does not wait for itself. */
  readonly resolveSecret: ResolveSecret
  readonly egress: Egress
  readonly audit: AuditLog
  readonly clock: Clock
  readonly monotonic: () => number
  readonly random: Random
  readonly logger: Logger
  /** Name of this node, with which `owner` begins. */
  readonly node: string
  readonly owner: string
  readonly shared: boolean
  /** Called with a secret that has another value now. */
  readonly changed: (secret: RotatedSecret) => void
  readonly at?: (point: string) => Promise<void> | void
}

/** The parts of the line of rotation, put together. */
export const createRotation = (deps: RotationDependencies): RotationService => {
  const { rotations, snapshot, backends } = deps
  const policies = (): RotationPolicy[] => [...snapshot().rotations.values()]
  const policyFor = (secret: RotatedSecret): RotationPolicy | undefined =>
    policies().find((policy) => covers(policy, secret))
  // The ids of Deputy's own keys are stored among its own secrets.
  const backendOf = (id: string) => backends.get(id === OWN_BACKEND ? EMBEDDED_BACKEND : id)
  const rotators = createRotators({ ...deps, settings: () => snapshot().settings })
  const limited = createTargetLimits()
  const rotatorOf = (policy: RotationPolicy, secret: RotatedSecret): Rotator =>
    limited(rotators(policy, secret), policy.concurrency)
  const engine = createRotationEngine({
    ...deps,
    backendOf,
    rotatorOf,
    changed: (secret) => {
      backends.forget(secret)
      deps.changed(secret)
    },
    isCheckedOut: async (rotation, version) => (await deps.checkouts.of(rotation, version)).length > 0,
  })
  const scheduler = new RotationScheduler({
    ...deps,
    engine,
    notify: createRotationNotifier(deps),
    policies,
    secretsOf: createCoveredSecrets(deps),
    targetOf: (policy, secret) => rotatorOf(policy, secret).target,
  })
  const read = createRotatingSecrets({
    rotations,
    backendOf,
    readCached: (secret) => backends.read(secret, policyFor(secret)?.grace),
    rotatorOf: (secret): Rotator | undefined => {
      const policy = policyFor(secret)
      return policy === undefined ? undefined : rotatorOf(policy, secret)
    },
  })
  const events = new RotationEvents({ snapshot, rotations, scheduler, policies, policyFor })
  return new RotationService({ ...deps, engine, scheduler, events, read, policyFor, rotatorOf })
}

interface ServiceParts extends Pick<RotationDependencies, 'rotations' | 'checkouts' | 'clock' | 'node'> {
  readonly engine: RotationEngine
  readonly scheduler: RotationScheduler
  readonly events: RotationEvents
  readonly read: ReadSecret
  readonly policyFor: (secret: RotatedSecret) => RotationPolicy | undefined
  readonly rotatorOf: (policy: RotationPolicy, secret: RotatedSecret) => Rotator
}

/** Rotation as a whole: secrets as they are handed out meanwhile, the work itself, and the orders and questions of admins. */
export class RotationService {
  readonly #parts: ServiceParts
  /** Reads secrets as they are handed out. */
  readonly read: ReadSecret

  constructor(parts: ServiceParts) {
    this.#parts = parts
    this.read = parts.read
  }

  /** What a connector has to know to hand a secret out; undefined for a secret that does not rotate. */
  termsOf(secret: RotatedSecret): RotationTerms | undefined {
    const policy = this.#parts.policyFor(secret)
    if (policy === undefined) return undefined
    return {
      grace: policy.grace,
      supportsDualSecrets: this.#parts.rotatorOf(policy, secret).supportsDualSecrets,
      endsEarly: endsEarly(policy),
    }
  }

  /** Processes that may still use the old version of a secret in its grace. */
  async checkoutsOfOld(): Promise<SecretHolder[]> {
    const { rotations, checkouts } = this.#parts
    const open = (await rotations.list({ state: 'grace' }, MAX_IN_GRACE)).filter(({ endedAt }) => endedAt === null)
    return (await Promise.all(open.map((rotation) => checkouts.of(rotation, rotation.oldVersion)))).flat()
  }

  /** Applies the policies of the files, and starts to look for secrets that are due. */
  async start(): Promise<void> {
    const { rotations, node, scheduler } = this.#parts
    // A claim of an earlier process of this node's name is void: the name is this process's now.
    await rotations.release(node)
    await scheduler.reconcile()
    scheduler.start()
  }

  reconcile(): Promise<void> {
    return this.#parts.scheduler.reconcile()
  }

  close(): Promise<void> {
    return this.#parts.scheduler.close()
  }

  /** A leak was reported, or an owner has left. @returns the rotations that were begun */
  event(event: 'leak' | 'owner_left', about: EventSubject): Promise<Rotation[]> {
    return this.#parts.events.reported(event, about)
  }

  /** @returns the rotations that were begun */
  revoked(scope: RevocationScope, revocation: string): Promise<Rotation[]> {
    return this.#parts.events.revoked(scope, revocation)
  }

  async targets(): Promise<RotationTarget[]> {
    await this.#parts.scheduler.reconcile()
    return this.#parts.rotations.targets()
  }

  list(filter: Parameters<RotationStore['list']>[0], limit: number): Promise<Rotation[]> {
    return this.#parts.rotations.list(filter, limit)
  }

  /** @throws DeputyError `rotation_not_possible` */
  begin(secret: RotatedSecret, reason: string): Promise<Rotation> {
    return this.#parts.scheduler.begin(secret, reason)
  }

  /** @throws DeputyError `rotation_not_possible` where no policy covers the secret */
  async pause(secret: RotatedSecret, reason: string): Promise<void> {
    await this.#parts.rotations.putTarget({ ...(await this.#targetOf(secret)), paused: reason })
  }

  /** @throws DeputyError `rotation_not_possible` where no policy covers the secret */
  async resume(secret: RotatedSecret): Promise<void> {
    await this.#parts.rotations.putTarget({ ...(await this.#targetOf(secret)), paused: null })
  }

  /** @returns the rotation: rolled back, or going back until that is possible. @throws DeputyError `rotation_not_possible` */
  rollBack(secret: RotatedSecret, by: string): Promise<Rotation> {
    return this.#onOpen(secret, (open, policy) => this.#parts.engine.rollBack(open, policy, by))
  }

  /** Retries now a rotation that waits for its next attempt, or for a person. @throws DeputyError `rotation_not_possible` */
  retry(secret: RotatedSecret): Promise<Rotation> {
    return this.#onOpen(secret, (open) => this.#parts.engine.retry(open))
  }

  /** The rotations of the next days, in order. */
  async plan(days: number): Promise<PlannedRotation[]> {
    return planOf(await this.targets(), this.#parts.policyFor, { now: this.#parts.clock.now(), days })
  }

  /** Every secret that a policy covers, by owner, with its age. */
  async report(): Promise<RotationReport[]> {
    return reportOf(await this.targets(), this.#parts.policyFor, this.#parts.clock.now())
  }

  async #targetOf(secret: RotatedSecret): Promise<RotationTarget> {
    await this.#parts.scheduler.reconcile()
    const target = await this.#parts.rotations.target(secret)
    if (target === undefined)
      throw refuse('rotation_not_possible', {
        problem: `no rotation policy covers the secret ${secret.secret} of ${secret.tenant}`,
      })
    return target
  }

  /** Runs an order on the rotation that is under way, again where that is written to concurrently. */
  async #onOpen(
    secret: RotatedSecret,
    work: (open: Rotation, policy: RotationPolicy) => Promise<Rotation>,
  ): Promise<Rotation> {
    for (let attempt = 1; ; attempt += 1) {
      const open = await this.#parts.rotations.open(secret)
      const policy = this.#parts.policyFor(secret)
      if (open === undefined || policy === undefined)
        throw refuse('rotation_not_possible', {
          problem: `no rotation of the secret ${secret.secret} of ${secret.tenant} is under way`,
        })
      try {
        return await work(open, policy)
      } catch (error) {
        if (attempt === MAX_ORDER_ATTEMPTS || !(error instanceof DeputyError && error.code === 'conflict')) throw error
      }
    }
  }
}
