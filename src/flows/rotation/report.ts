import type { RotationPolicy } from '#config'
import type { RotatedSecret, RotationTarget } from '#foundation/store'
import { plannedRotations } from './schedule.ts'

const DAY_MS = 86_400_000

type PolicyFor = (secret: RotatedSecret) => RotationPolicy | undefined

/** A secret with its policy, owner and age (ms), for admins. */
export interface RotationReport extends RotatedSecret {
  readonly policy: string
  readonly owner: string
  readonly age: number
  readonly maxAge: number | null
  readonly overdue: boolean
}

/** A rotation that is due at `at` (ms since the epoch). */
export interface PlannedRotation extends RotatedSecret {
  readonly policy: string
  readonly at: number
  readonly paused: string | null
}

/** The rotations of the next days, in order. */
export const planOf = (
  targets: readonly RotationTarget[],
  policyFor: PolicyFor,
  { now, days }: { readonly now: number; readonly days: number },
): PlannedRotation[] =>
  targets
    .flatMap((target) => {
      const { tenant, backend, secret, paused } = target
      const policy = policyFor(target)
      if (policy === undefined) return []
      return plannedRotations(policy.when, target, { from: target.nextAt, until: now + days * DAY_MS }).map((at) => ({
        tenant,
        backend,
        secret,
        policy: target.policy,
        at,
        paused,
      }))
    })
    .sort((a, b) => a.at - b.at)

/** Every secret that a policy covers, by owner, the oldest first. */
export const reportOf = (targets: readonly RotationTarget[], policyFor: PolicyFor, now: number): RotationReport[] =>
  targets
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
