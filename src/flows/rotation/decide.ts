import type { RotationStep } from '#foundation/store'
import { FOREIGN, REMOVED, RESTORED, type HandedOut } from './handed-out.ts'
import type { Login } from './rotator.ts'

/** What a login said: `unknown` when the target cannot be asked, `absent` when there is nothing to try. */
export type Said = Login | 'unknown' | 'absent'

/** How a rotation stands after an act has failed. */
export interface Standing {
  readonly step: RotationStep
  readonly handedOut: HandedOut['is'] | 'unknown'
  /** A login with the new one. */
  readonly fresh: Said
  /** A login with what is handed out. */
  readonly stays: Said
  /** Whether all attempts that the policy allows have failed. */
  readonly exhausted: boolean
  readonly afterwards: 'roll_back' | 'page'
  /** Whether there was an old one at the plan. */
  readonly hadOld: boolean
  /** Whether the target has chosen: what it has ended by that, nothing brings back. */
  readonly isChosen: boolean
}

export type Decision =
  | { readonly do: 'again'; readonly from?: RotationStep }
  | { readonly do: 'forward'; readonly to: RotationStep }
  | { readonly do: 'call'; readonly why: string; readonly from?: RotationStep }
  | { readonly do: 'back' }

const BACK: ReadonlySet<RotationStep> = new Set(['going_back', 'put_back', 'new_ended', 'gone_back'])
/** Whether nothing but the way back is left. */
export const isBack = (step: RotationStep): boolean => BACK.has(step)
const PROMOTED: ReadonlySet<RotationStep> = new Set(['promoted', 'retired', 'proven', 'done'])
/** Whether the new one is what is handed out, as far as the rotation has written down. */
export const isPromoted = (step: RotationStep): boolean => PROMOTED.has(step)

type Waits = Extract<Decision, { do: 'again' | 'call' }>
const AGAIN: Waits = { do: 'again' }
const call = (why: string): Waits => ({ do: 'call', why })
/** Tries again, and calls a person once the attempts are used up; the attempts continue nevertheless. */
const againOr = ({ exhausted }: Standing, why: string): Waits => (exhausted ? call(why) : AGAIN)

const afterPromotion = (standing: Standing): Decision => {
  const { handedOut, fresh } = standing
  if (handedOut === 'unknown') return againOr(standing, 'the backend cannot be read')
  if (handedOut === 'foreign') return call(FOREIGN)
  if (handedOut === 'none') return call(REMOVED)
  if (handedOut === 'old') return call(RESTORED)
  if (fresh === 'unknown') return againOr(standing, 'the target cannot be asked')
  if (fresh !== 'works') return againOr(standing, 'the new one does not work, and the old one was left as it is')
  const decision = againOr(standing, 'the new one works, and the old one could not be ended')
  // A target that confirms the change and does nothing is asked once more.
  return standing.step === 'retired' ? { ...decision, from: 'promoted' } : decision
}

const beforePromotion = (standing: Standing): Decision => {
  const { step, handedOut, fresh, stays, exhausted, hadOld } = standing
  if (handedOut === 'foreign') return call(FOREIGN)
  if (handedOut === 'none' && hadOld) return call(REMOVED)
  if (handedOut === 'unknown') return againOr(standing, 'the backend cannot be read')
  if (fresh === 'unknown' || stays === 'unknown') return againOr(standing, 'the target cannot be asked')
  // Promoted, and only the answer was lost: the next attempt writes that down.
  if (handedOut === 'new') return againOr(standing, 'the new one is current, and that could not be written down')
  if (fresh === 'works' && step === 'staged') return { do: 'forward', to: 'applied' }
  // The new one is the only one that works: there is no way but forward, however long it takes.
  if (fresh === 'works' && stays !== 'works')
    return againOr(standing, 'only the new one works, and it could not be made current')
  if (!exhausted) return step === 'applied' && !standing.isChosen ? { do: 'again', from: 'staged' } : AGAIN
  if (stays === 'refused') return call('neither the old one nor the new one works')
  if (standing.isChosen) return call('the target has chosen the new one, so that there is no way back')
  return standing.afterwards === 'page' ? call('the old one works') : { do: 'back' }
}

/**
 * What happens after an act has failed: the target decides. Where the new one works, forward; where only the old one works, another
 * attempt, and in the end back; where neither works, a person is called. Where the backend or the target cannot be asked nothing
 * is decided, and a person is called when that lasts. On the way back nothing leads forward.
 */
export const decide = (standing: Standing): Decision => {
  if (isBack(standing.step)) return againOr(standing, 'it goes back, and could not do so yet')
  return isPromoted(standing.step) ? afterPromotion(standing) : beforePromotion(standing)
}
