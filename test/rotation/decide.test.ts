import { describe, expect, it } from 'vitest'
import { decide, isBack, isPromoted, type Decision, type Said, type Standing } from '../../src/flows/rotation/decide.ts'
import { ROTATION_STEPS } from '../../src/foundation/store/records/rotations.ts'

const SAID: readonly Said[] = ['works', 'refused', 'unknown', 'absent']
const both = [true, false] as const
const cells: readonly Standing[] = ROTATION_STEPS.filter((step) => step !== 'done' && step !== 'gone_back').flatMap(
  (step) =>
    (['old', 'new', 'foreign', 'none', 'unknown'] as const).flatMap((handedOut) =>
      SAID.flatMap((fresh) =>
        SAID.flatMap((stays) =>
          both.flatMap((exhausted) =>
            (['roll_back', 'page'] as const).flatMap((afterwards) =>
              both.flatMap((hadOld) =>
                both.map((isChosen) => ({
                  step,
                  handedOut,
                  fresh,
                  stays,
                  exhausted,
                  afterwards,
                  hadOld,
                  isChosen,
                })),
              ),
            ),
          ),
        ),
      ),
    ),
)
const those = (fits: (cell: Standing, decision: Decision) => boolean): Standing[] =>
  cells.filter((cell) => fits(cell, decide(cell)))

describe('what follows from a failure, in every cell', () => {
  it('promise 7: goes back only while the new one is not current, and what stays works or there never was one', () => {
    const back = those((_, decision) => decision.do === 'back')
    expect(back.length).toBeGreaterThan(0)
    for (const cell of back) {
      expect(isPromoted(cell.step) || isBack(cell.step)).toBe(false)
      expect(['works', 'absent']).toContain(cell.stays)
      expect(['old', 'none']).toContain(cell.handedOut)
      expect(cell).toMatchObject({ exhausted: true, afterwards: 'roll_back', isChosen: false })
    }
  })

  it('fault 89: from the way back nothing leads forward', () => {
    expect(those(({ step }, { do: what }) => isBack(step) && what !== 'again' && what !== 'call')).toEqual([])
    expect(those(({ step }, decision) => isBack(step) && decision.do === 'again' && 'from' in decision)).toEqual([])
  })

  it('fault 91: a foreign value calls a person at once', () => {
    expect(
      those(({ step, handedOut }, { do: what }) => !isBack(step) && handedOut === 'foreign' && what !== 'call'),
    ).toEqual([])
  })

  it('promise 7: where something cannot be asked nothing is decided but to ask again and to call a person', () => {
    const unknown = those(
      ({ handedOut, fresh, stays, step }, { do: what }) =>
        (handedOut === 'unknown' || fresh === 'unknown' || (stays === 'unknown' && !isPromoted(step))) &&
        what !== 'again' &&
        what !== 'call',
    )
    expect(unknown).toEqual([])
  })

  it('promise 7: once the attempts are used up it goes back, calls a person, or goes forward where the change was made', () => {
    expect(those(({ exhausted }, { do: what }) => exhausted && what === 'again')).toEqual([])
    for (const cell of those((_, { do: what }) => what === 'forward'))
      expect(cell).toMatchObject({ step: 'staged', fresh: 'works' })
  })
})
