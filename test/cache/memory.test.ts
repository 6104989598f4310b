import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cacheKey } from '../../src/foundation/cache/cache.ts'
import { createMemoryCache } from '../../src/foundation/cache/memory.ts'
import { describeCache } from '../conformance/cache.ts'

describeCache('the process cache', (options) => createMemoryCache<string>(options))

describe('a key', () => {
  it('threat 24: of other parts is another key, whatever characters the parts hold', () => {
    const parts = fc.array(fc.oneof(fc.string(), fc.constantFrom('', ':', '1:', '1:a', '0:', 'acme', 'a')))
    fc.assert(
      fc.property(parts, parts, (left, right) => {
        const same = left.length === right.length && left.every((part, at) => part === right[at])
        expect(cacheKey(...left) === cacheKey(...right)).toBe(same)
      }),
      { numRuns: 2000 },
    )
  })
})
