import { describe, expect, it } from 'vitest'
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
