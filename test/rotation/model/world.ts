/** What a model of rotations knows: the store's row, a backend, a target, and what other people have done. Plain data, so that it can be copied and compared. */
import type { Rotation } from '../../../src/foundation/store/records/rotations.ts'

export const SECRET = { tenant: 'acme', backend: 'backend', secret: 'database' }
export const ID = '0123456789abcdef0123456789abcdef'
/** The one before, the new one, what a person sets: one that works, and one that does not. */
export const [OLD, NEW, FOREIGN, BROKEN] = ['old', 'new', 'of a person', 'broken'] as const

export type BackendKind = 'embedded' | 'kv' | 'aws'
/** `two`: old and new at the same time; `one`: one at a time; `asked`: one at a time, chosen by the target. */
export type TargetKind = 'two' | 'one' | 'asked'

export interface KvVersion {
  readonly value: string
  readonly token: string | null
  readonly gone: boolean
}
export interface StoredVersion {
  readonly id: string
  readonly value: string
  readonly token: string | null
  stages: string[]
}

export interface World {
  row: Rotation
  sealed: string | null
  /** KV: the newest last, counted from `pruned` + 1. */
  kv: { versions: KvVersion[]; pruned: number; pending: { value: string; token: string } | null }
  /** Embedded and AWS. */
  stored: StoredVersion[]
  target: { accepts: string[] }
  backendIs: 'there' | 'refusing' | 'away'
  targetIs: 'there' | 'refusing' | 'away'
  now: number
  /** An order to promote that is still on its way. */
  late: unknown
  /** Disturbances that may still happen. */
  left: number
  /** Somebody has changed the secret, or what the target accepts. */
  touched: boolean
}

/** What changes in place is copied; the rest is never changed. */
export const copied = (world: World): World => ({
  ...world,
  kv: { ...world.kv, versions: [...world.kv.versions] },
  stored: world.stored.map((each) => ({ ...each, stages: [...each.stages] })),
  target: { accepts: [...world.target.accepts] },
})

/** What two worlds have in common that differ only in times and counters. */
export const keyOf = ({ row, sealed, now: _, ...world }: World): string => {
  const { revision: _r, nextAt: _n, startedAt: _s, graceUntil: _g, owner, attempts, ...rest } = row
  return JSON.stringify([world, sealed, rest, owner !== null, Math.min(attempts, 2)])
}

/** What a reader of the backend gets. */
export const currentOf = (kind: BackendKind, { kv, stored }: World): string | undefined => {
  if (kind !== 'kv') return stored.find(({ stages }) => stages.includes('current'))?.value
  const last = kv.versions.at(-1)
  return last === undefined || last.gone ? undefined : last.value
}

/** What was handed out at the plan, as the rotation keeps it. */
export const plannedOf = ({ sealed }: World): string | undefined =>
  sealed === null
    ? undefined
    : (JSON.parse((JSON.parse(sealed) as [object, string])[1]) as { old: { value: string } | null }).old?.value
