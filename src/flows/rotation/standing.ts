import type { Secret } from '#foundation/crypto'
import type { Work } from './acts.ts'
import { isPromoted, type Said, type Standing } from './decide.ts'
import { handedOut } from './handed-out.ts'
import type { Rotator } from './rotator.ts'

const said = async (rotator: Rotator, value: Secret | undefined): Promise<Said> => {
  if (value === undefined) return 'absent'
  try {
    return await rotator.login(value)
  } catch {
    return 'unknown'
  }
}

/** Asks the backend and the target how a rotation stands. What cannot be asked is unknown. */
export const standingOf = async (work: Work, exhausted: boolean): Promise<Standing> => {
  const { rotation, rotator, backend, values, policy } = work
  const now = await handedOut(backend, rotation, values).catch(() => undefined)
  const fresh = await said(rotator, values.next)
  const isPlanned = rotation.step !== 'planned'
  return {
    step: rotation.step,
    // Before the plan is kept, what is handed out is what it would replace.
    handedOut: !isPlanned && now?.is === 'foreign' ? 'old' : (now?.is ?? 'unknown'),
    fresh,
    stays: isPromoted(rotation.step) ? 'absent' : now?.is === 'new' ? fresh : await said(rotator, now?.version?.value),
    exhausted,
    afterwards: policy.on_failure.afterwards,
    hadOld: values.old !== undefined || (!isPlanned && now?.version !== undefined),
    isChosen: rotator.generatedByTarget === true && values.next !== undefined,
  }
}
