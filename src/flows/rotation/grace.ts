import { createLru } from '#foundation/lru'
import type { Clock } from '#clock'
import { endsEarly, type RotationPolicy } from '#config'
import type { Rotation } from '#foundation/store'

/** Clocks that drift apart by less are not what somebody has set (ms). */
const DRIFT = 5000
const REMEMBERED = 100_000
/** How often is looked during a grace whether all have moved: at this part of it, and not more often than this (ms). */
const LOOKS = 60
const SHORTEST_LOOK = 1000

/**
 * Graces as they pass in this process, by a clock that nobody can set: who was handed the old secret was told for how long, and
 * not until when. A process that begins in the middle of a grace has nothing to go by but the time of day.
 */
export const createGraces = ({ clock, monotonic }: { clock: Clock; monotonic: () => number }) => {
  const seen = createLru<string, { readonly until: number; readonly wall: number; readonly steady: number }>({
    max: REMEMBERED,
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
    /** Whether the clock was set since the grace was first seen: then nobody can say whose time is over. */
    wasSet(rotation: Rotation): boolean {
      const { wall, steady } = firstSeen(rotation)
      return Math.abs(clock.now() - wall - (monotonic() - steady)) > DRIFT
    },
    /** The grace is over when its time is, or everybody who had the old one has moved. */
    async isOver(rotation: Rotation, policy: RotationPolicy, isCheckedOut: () => Promise<boolean>): Promise<boolean> {
      return graces.left(rotation) <= 0 || (endsEarly(policy) && !graces.wasSet(rotation) && !(await isCheckedOut()))
    },
    /** When a grace is looked at next (ms since the epoch). @param until when it ends */
    nextLook: (until: number, policy: RotationPolicy): number =>
      endsEarly(policy) ? Math.min(until, clock.now() + Math.max(SHORTEST_LOOK, policy.grace / LOOKS)) : until,
  }
  return graces
}
