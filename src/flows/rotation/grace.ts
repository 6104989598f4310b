import { createLru } from '#foundation/lru'
import type { Clock } from '#clock'
import { endsEarly, type RotationPolicy } from '#config'
import type { Rotation } from '#foundation/store'

/** A drift of the clock below this (ms) does not count as a clock that was set. */
const MAX_DRIFT_MS = 5000
const MAX_REMEMBERED = 100_000
/** Checkouts are looked at so many times during a grace, and at most once in this time (ms). */
const LOOKS = 60
const MIN_LOOK_MS = 1000

/**
 * Graces as they pass in this process, by a monotonic clock: a process with the old secret was told for how long it may use it,
 * not until when. A process that starts in the middle of a grace only has the time of day.
 */
export const createGraces = ({ clock, monotonic }: { clock: Clock; monotonic: () => number }) => {
  const seen = createLru<string, { readonly until: number; readonly wall: number; readonly steady: number }>({
    max: MAX_REMEMBERED,
  })
  const firstSeen = ({ id, graceUntil }: Rotation) => {
    let first = seen.get(id)
    if (first?.until !== graceUntil)
      seen.set(id, (first = { until: graceUntil!, wall: clock.now(), steady: monotonic() }))
    return first!
  }
  const graces = {
    /** How much of it is left (ms). */
    left(rotation: Rotation): number {
      const { until, wall, steady } = firstSeen(rotation)
      return Math.ceil(until - wall - (monotonic() - steady))
    },
    /** Whether the clock was set since the grace was first seen: then the recorded ends of checkouts prove nothing. */
    wasSet(rotation: Rotation): boolean {
      const { wall, steady } = firstSeen(rotation)
      return Math.abs(clock.now() - wall - (monotonic() - steady)) > MAX_DRIFT_MS
    },
    /** The grace is over when its time is, or every process that had the old version has the new one. */
    async isOver(rotation: Rotation, policy: RotationPolicy, isCheckedOut: () => Promise<boolean>): Promise<boolean> {
      return graces.left(rotation) <= 0 || (endsEarly(policy) && !graces.wasSet(rotation) && !(await isCheckedOut()))
    },
    /** When the grace is looked at next (ms since the epoch). @param until when it ends */
    nextLook: (until: number, policy: RotationPolicy): number =>
      endsEarly(policy) ? Math.min(until, clock.now() + Math.max(MIN_LOOK_MS, policy.grace / LOOKS)) : until,
  }
  return graces
}

export type Graces = ReturnType<typeof createGraces>
