import { createLru } from '#foundation/lru'
import type { Clock } from '#clock'
import type { Cache } from './cache.ts'

interface Entry<Value> {
  readonly value: Value
  readonly expiresAt: number
}

/** The process cache: least recently used entries leave first, expired ones are never returned. */
export const createMemoryCache = <Value>(options: { entries: number; clock: Clock }): Cache<Value> => {
  const entries = createLru<string, Entry<Value>>({ max: options.entries })
  const { clock } = options
  return {
    get(key) {
      const entry = entries.get(key)
      if (entry === undefined) return undefined
      if (entry.expiresAt > clock.now()) return entry.value
      entries.delete(key)
      return undefined
    },
    set(key, value, expiresAt) {
      if (expiresAt > clock.now()) entries.set(key, { value, expiresAt })
    },
    delete(key) {
      entries.delete(key)
    },
    purge(covers) {
      let count = 0
      for (const [key, { value }] of entries.entries()) {
        if (!covers(value)) continue
        entries.delete(key)
        count += 1
      }
      return count
    },
    get size() {
      return entries.size
    },
  }
}
