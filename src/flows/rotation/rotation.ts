import type { Clock, Random } from '#clock'
import {
  covers,
  type CurrentSnapshot,
  dataKeyOf,
  endsEarly,
  keeps,
  OWN_BACKEND,
  type OwnKeys,
  type RotationPolicy,
  servesTenant,
} from '#config'
import type { RotationTerms } from '#credentials/connector'
import { EMBEDDED_BACKEND, type ReadSecret, type ResolveSecret, type SecretBackends } from '#credentials/secret'
import { DeputyError, refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import { type Envelope, OWN_TENANT, Secret } from '#foundation/crypto'
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
import { createRotationEngine } from './engine.ts'
import type { Checkouts } from './checkouts.ts'
import { createTargetLimits } from './limited.ts'
import { createRotationNotifier } from './notify.ts'
import { createRotatingSecrets } from './reading.ts'
import type { Rotator } from './rotator.ts'
import { createRotators } from './rotators/create.ts'
import type { RotatedKeys } from './rotators/deputy-keys.ts'
import { plannedRotations } from './schedule.ts'
import { RotationScheduler } from './scheduler.ts'

const DAY = 86_400_000
/** How often an order meets a rotation that is written to at that moment, before it is refused. */
const ORDERS = 5
type RotationEvent = RotationPolicy['when']['on'][number]

/** A secret with what its policy says about it, for people. */
export interface RotationReport extends RotatedSecret {
  readonly policy: string
  readonly owner: string
  readonly age: number
  readonly maxAge: number | null
  readonly overdue: boolean
}

/** Rotation as a whole: what is handed out while it goes on, the work itself, and what people ask and say about it. */
export const createRotation = (deps: {
  readonly home: string
  readonly snapshot: CurrentSnapshot
  readonly rotations: RotationStore
  readonly envelope: Envelope
  readonly backends: SecretBackends
  readonly checkouts: Pick<Checkouts, 'of'>
  readonly ownKeys: RotatedKeys & { tenants(): Promise<string[]> }
  /** Reads references past what rotates: a rotation does not wait for itself. */
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
  /** Told of a secret that has another value now. */
  readonly changed: (secret: RotatedSecret) => void
  readonly at?: (point: string) => Promise<void> | void
}) => {
  const { rotations, clock, snapshot } = deps
  const policies = (): RotationPolicy[] => [...snapshot().rotations.values()]
  const policyFor = (secret: RotatedSecret): RotationPolicy | undefined =>
    policies().find((policy) => covers(policy, secret))
  const { backends } = deps
  // Of Deputy's own keys the ids are kept beside its own secrets.
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

  const secretsOf = async (policy: RotationPolicy): Promise<RotatedSecret[]> => {
    const { backend, tenants, name: named } = policy.secrets
    if (backend === OWN_BACKEND) {
      const names: OwnKeys[] = ['signing-keys', 'key-encryption-key', ...(await deps.ownKeys.tenants()).map(dataKeyOf)]
      return Promise.all(names.filter((secret) => covers(policy, { tenant: OWN_TENANT, backend, secret })).map(ownKey))
    }
    // Elsewhere nobody asks the backend what it has: the policy names one secret, which its first rotation makes if need be.
    if (backend !== EMBEDDED_BACKEND)
      return [...snapshot().tenants.keys()]
        .filter((tenant) => servesTenant(tenants, tenant))
        .map((tenant) => ({ tenant, backend, secret: named }))
    const known = (await backends.embedded.list()).filter(
      ({ stage, tenant }) => stage === 'current' && snapshot().tenants.has(tenant),
    )
    return known
      .map(({ tenant, name }) => ({ tenant, backend: EMBEDDED_BACKEND, secret: name }))
      .filter((secret) => covers(policy, secret))
  }
  /** What rotates is the id of the key that is in force. */
  const ownKey = async (name: OwnKeys): Promise<RotatedSecret> => {
    if ((await backends.embedded.find(OWN_TENANT, name, 'current')) === undefined)
      await backends.embedded.write(OWN_TENANT, name, new Secret(await deps.ownKeys.current(name)))
    return { tenant: OWN_TENANT, backend: OWN_BACKEND, secret: name }
  }
  const notify = createRotationNotifier(deps)
  const scheduler = new RotationScheduler({
    ...deps,
    engine,
    notify,
    policies,
    secretsOf,
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
  const targetOf = async (secret: RotatedSecret): Promise<RotationTarget> => {
    await scheduler.reconcile()
    const target = await rotations.target(secret)
    if (target === undefined)
      throw refuse('rotation_not_possible', {
        problem: `no rotation policy covers the secret ${secret.secret} of ${secret.tenant}`,
      })
    return target
  }

  /** Does something with the rotation that is under way, again where it was written to meanwhile. */
  const onOpen = async (
    secret: RotatedSecret,
    work: (open: Rotation, policy: RotationPolicy) => Promise<Rotation>,
  ): Promise<Rotation> => {
    for (let attempt = 1; ; attempt += 1) {
      const open = await rotations.open(secret)
      const policy = policyFor(secret)
      if (open === undefined || policy === undefined)
        throw refuse('rotation_not_possible', {
          problem: `no rotation of the secret ${secret.secret} of ${secret.tenant} is under way`,
        })
      try {
        return await work(open, policy)
      } catch (error) {
        if (attempt === ORDERS || !(error instanceof DeputyError && error.code === 'conflict')) throw error
      }
    }
  }

  /** Begins the rotation of what an event is about; what is rotating already goes on. @returns what was begun */
  const onEvent = async (
    event: RotationEvent,
    reason: string,
    isMeant: (secret: RotatedSecret, policy: RotationPolicy) => boolean,
  ): Promise<Rotation[]> => {
    const begun: Rotation[] = []
    // Most installations have no policy for it, and a revocation need not wait for two looks at the store.
    if (!policies().some(({ when }) => when.on.includes(event))) return begun
    await scheduler.reconcile()
    for (const target of await rotations.targets()) {
      const policy = policyFor(target)
      if (policy?.when.on.includes(event) !== true || target.paused !== null || !isMeant(target, policy)) continue
      try {
        begun.push(await scheduler.begin(target, reason))
      } catch (error) {
        if (!(error instanceof DeputyError && error.code === 'rotation_not_possible')) throw error
      }
    }
    return begun
  }

  /** Whether somebody who had the secret may be meant: whoever is revoked could have been given it in the tenant's name. */
  const isRevoked = (scope: RevocationScope, { tenant, backend, secret }: RotatedSecret): boolean => {
    if ('tenant' in scope && scope.tenant !== undefined && scope.tenant !== tenant) return false
    switch (scope.kind) {
      case 'user':
      case 'server':
      case 'issuer':
      case 'everything':
        return true
      case 'downstream':
        return keeps(snapshot().downstreams.get(scope.downstream), { backend, secret })
      // What the tenant had is destroyed with it; the others are no static secrets.
      case 'tenant':
      case 'provider':
      case 'grant':
      case 'token':
        return false
    }
  }

  return {
    /** A leak was reported, or an owner has left. */
    event: (
      event: 'leak' | 'owner_left',
      about: { tenant?: string; secret?: string; owner?: string },
    ): Promise<Rotation[]> =>
      onEvent(
        event,
        event,
        (secret, policy) =>
          (about.tenant === undefined || about.tenant === secret.tenant) &&
          (about.secret === undefined || about.secret === secret.secret) &&
          (about.owner === undefined || about.owner === policy.owner),
      ),
    revoked: (scope: RevocationScope, revocation: string): Promise<Rotation[]> =>
      onEvent('revocation', `revocation ${revocation}`, (secret) => isRevoked(scope, secret)),

    /** Reads secrets as they are handed out. */
    read: read satisfies ReadSecret,
    /** What those who hand it out have to know; undefined for a secret that does not rotate. */
    termsOf(secret: RotatedSecret): RotationTerms | undefined {
      const policy = policyFor(secret)
      return policy === undefined
        ? undefined
        : {
            grace: policy.grace,
            supportsDualSecrets: rotatorOf(policy, secret).supportsDualSecrets,
            endsEarly: endsEarly(policy),
          }
    },
    /** Who may still use the old version of a secret that is in its grace. */
    async checkoutsOfOld(): Promise<SecretHolder[]> {
      const open = (await rotations.list({ state: 'grace' }, 10_000)).filter(({ endedAt }) => endedAt === null)
      return (await Promise.all(open.map((rotation) => deps.checkouts.of(rotation, rotation.oldVersion)))).flat()
    },
    /** Takes over what the files say now, and begins to look for what is due. */
    async start(): Promise<void> {
      // What a process of this node's name had begun, it does not go on with: the name is ours now.
      await rotations.release(deps.node)
      await scheduler.reconcile()
      scheduler.start()
    },
    reconcile: () => scheduler.reconcile(),
    close: () => scheduler.close(),

    targets: async (): Promise<RotationTarget[]> => {
      await scheduler.reconcile()
      return rotations.targets()
    },
    list: (filter: Parameters<RotationStore['list']>[0], limit: number): Promise<Rotation[]> =>
      rotations.list(filter, limit),
    begin: (secret: RotatedSecret, reason: string): Promise<Rotation> => scheduler.begin(secret, reason),
    async pause(secret: RotatedSecret, reason: string): Promise<void> {
      await rotations.putTarget({ ...(await targetOf(secret)), paused: reason })
    },
    async resume(secret: RotatedSecret): Promise<void> {
      await rotations.putTarget({ ...(await targetOf(secret)), paused: null })
    },
    /** @returns how it stands: rolled back, or going back until that is possible */
    rollBack: (secret: RotatedSecret, by: string): Promise<Rotation> =>
      onOpen(secret, (open, policy) => engine.rollBack(open, policy, by)),
    /** Tries now what waits for another attempt, or for a person. */
    retry: (secret: RotatedSecret): Promise<Rotation> => onOpen(secret, (open) => engine.retry(open)),
    /** What rotates in the next so many days, in order. */
    async plan(
      days: number,
    ): Promise<(RotatedSecret & { readonly policy: string; readonly at: number; readonly paused: string | null })[]> {
      await scheduler.reconcile()
      const until = clock.now() + days * DAY
      return (await rotations.targets())
        .flatMap((target) => {
          const policy = policyFor(target)
          return policy === undefined
            ? []
            : plannedRotations(policy.when, target, target.nextAt, until).map((at) => ({
                tenant: target.tenant,
                backend: target.backend,
                secret: target.secret,
                policy: target.policy,
                at,
                paused: target.paused,
              }))
        })
        .sort((a, b) => a.at - b.at)
    },
    /** Every secret that a policy covers, by owner, with its age. */
    async report(): Promise<RotationReport[]> {
      await scheduler.reconcile()
      const now = clock.now()
      return (await rotations.targets())
        .flatMap(({ tenant, backend, secret, rotatedAt }) => {
          const policy = policyFor({ tenant, backend, secret })
          if (policy === undefined) return []
          const age = now - (rotatedAt ?? now)
          const maxAge = policy.when.max_age ?? null
          return [
            {
              tenant,
              backend,
              secret,
              policy: policy.rotation,
              owner: policy.owner,
              age,
              maxAge,
              overdue: maxAge !== null && age > maxAge,
            },
          ]
        })
        .sort((a, b) => a.owner.localeCompare(b.owner) || b.age - a.age)
    },
  }
}
export type RotationRoom = ReturnType<typeof createRotation>
