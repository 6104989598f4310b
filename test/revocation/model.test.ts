import { describe, expect, it } from 'vitest'
import * as goingBack from './going-back.ts'
import { ALL_GUARDS, explore, type Guards } from './model.ts'

describe('the protocol of leases and revocations', () => {
  it(
    'promise 4: in every state that can be reached, what was revoked is not served once that is confirmed',
    { timeout: 180_000 },
    () => {
      const { states, served, counterexample } = explore(ALL_GUARDS)
      expect(counterexample).toBeUndefined()
      // The model does something: there are states in which the node serves.
      expect(served).toBe(true)
      expect(states).toBeGreaterThan(100_000)
    },
  )

  for (const guard of Object.keys(ALL_GUARDS) as (keyof Guards)[]) {
    it(`promise 4: fails without ${guard}`, () => {
      const { counterexample } = explore({ ...ALL_GUARDS, [guard]: false })
      expect(counterexample?.slice(-1)).toEqual(['serve'])
      expect(counterexample).toContain('confirm')
    })
  }
})

/** The loss of commits, and what each of two revocations, two nodes and the store do before and after it, in any order. */
const STEPS = 8

describe('the protocol when the store loses its last n commits', () => {
  it(
    'fault 101, promise 4: what was confirmed is in force, and is so again when each node has spoken with the store',
    { timeout: 60_000 },
    () => {
      const { states, counterexample } = goingBack.explore(goingBack.ALL_GUARDS, STEPS)
      expect(counterexample).toBeUndefined()
      expect(states).toBeGreaterThan(80_000)
    },
  )

  for (const guard of Object.keys(goingBack.ALL_GUARDS) as (keyof goingBack.Guards)[]) {
    it(`fault 101, promise 4: fails without ${guard}`, () => {
      const { counterexample } = goingBack.explore({ ...goingBack.ALL_GUARDS, [guard]: false }, STEPS)
      expect(counterexample?.some((step) => step.includes('the store loses'))).toBe(true)
    })
  }
})
