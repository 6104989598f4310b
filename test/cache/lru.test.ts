import { describe, expect, it } from 'vitest'
import { createLru } from '../../src/foundation/lru/lru.ts'

describe('a map of at most so many entries', () => {
  it('drops what was not used for longest, also where entries are replaced and removed', () => {
    const dropped: string[] = []
    const map = createLru<string, object>({
      max: 3,
      dispose: (_, key, reason) => {
        if (reason === 'evict') dropped.push(key)
      },
    })
    for (const key of ['a', 'b', 'c']) map.set(key, {})
    map.get('a')
    map.set('b', {})
    expect([map.size, dropped]).toEqual([3, []])
    map.set('d', {})
    expect([[...map.keys()].sort(), dropped]).toEqual([['a', 'b', 'd'], ['c']])
    map.delete('a')
    map.set('e', {})
    expect([map.size, dropped]).toEqual([3, ['c']])
    for (let at = 0; at < 1000; at += 1) map.set(`many ${at}`, {})
    expect([map.size, [...map.keys()]]).toEqual([3, ['many 999', 'many 998', 'many 997']])
    const one = createLru<string, number>({ max: 1 })
    one.set('a', 1).set('b', 2).set('b', 3)
    expect([...one.entries()]).toEqual([['b', 3]])
  })

  it('takes no room before there is something in it', () => {
    const made = Array.from({ length: 20 }, () => createLru({ max: 1_000_000 }))
    const { arrayBuffers, heapUsed } = process.memoryUsage()
    const again = Array.from({ length: 20 }, () => createLru({ max: 1_000_000 }))
    const after = process.memoryUsage()
    expect(after.arrayBuffers + after.heapUsed - arrayBuffers - heapUsed).toBeLessThan(20_000_000)
    expect(made.length + again.length).toBe(40)
  })
})
