import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Cache } from '../../src/foundation/cache/cache.ts'
import { aClock } from '../support/snapshot.ts'

/** What every cache does, whatever it is made of. */
export const describeCache = (
  name: string,
  make: (options: { entries: number; clock: { now(): number } }) => Cache<string>,
): void => {
  describe(`${name} is a cache`, () => {
    it('gives back what it was given until it expires, and nothing at that very moment', () => {
      const clock = aClock()
      const cache = make({ entries: 10, clock })
      cache.set('k', 'v', clock.now() + 10)
      clock.forward(9)
      expect(cache.get('k')).toBe('v')
      clock.forward(1)
      expect([cache.get('k'), cache.size]).toEqual([undefined, 0])
    })

    it('does not take what has expired already', () => {
      const clock = aClock()
      const cache = make({ entries: 10, clock })
      cache.set('k', 'v', clock.now())
      expect([cache.get('k'), cache.size]).toEqual([undefined, 0])
    })

    it('never holds more entries than it may', () => {
      const clock = aClock()
      const cache = make({ entries: 10, clock })
      for (let at = 0; at < 1000; at += 1) cache.set(String(at), 'v', clock.now() + 1000)
      expect(cache.size).toBe(10)
      expect(cache.get('999')).toBe('v')
    })

    it('behaves like a map whose entries expire', () => {
      const key = fc.constantFrom('a', 'b', 'c')
      const step = fc.oneof(
        fc.record({
          kind: fc.constant('set' as const),
          key,
          value: fc.string(),
          life: fc.integer({ min: -5, max: 20 }),
        }),
        fc.record({ kind: fc.constant('get' as const), key }),
        fc.record({ kind: fc.constant('delete' as const), key }),
        fc.record({ kind: fc.constant('wait' as const), by: fc.integer({ min: 0, max: 10 }) }),
        fc.record({ kind: fc.constant('purge' as const), value: fc.string() }),
      )
      fc.assert(
        fc.property(fc.array(step), (steps) => {
          const clock = aClock()
          const cache = make({ entries: 10, clock })
          const model = new Map<string, { value: string; expiresAt: number }>()
          for (const each of steps) {
            if (each.kind === 'set') {
              cache.set(each.key, each.value, clock.now() + each.life)
              if (each.life > 0) model.set(each.key, { value: each.value, expiresAt: clock.now() + each.life })
            } else if (each.kind === 'delete') {
              cache.delete(each.key)
              model.delete(each.key)
            } else if (each.kind === 'wait') clock.forward(each.by)
            else if (each.kind === 'purge') {
              cache.purge((value) => value === each.value)
              for (const [known, { value }] of model) if (value === each.value) model.delete(known)
            } else {
              const known = model.get(each.key)
              expect(cache.get(each.key)).toBe(
                known !== undefined && known.expiresAt > clock.now() ? known.value : undefined,
              )
            }
          }
        }),
      )
    })
  })
}
