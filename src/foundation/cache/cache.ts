/**
 * A bounded cache of values that end at a known time. The process cache implements it; a shared one can.
 * Every implementation runs `test/conformance/cache.ts`.
 */
export interface Cache<Value> {
  /** Undefined when absent or expired at the clock's now. */
  get(key: string): Value | undefined
  /** Kept at most until `expiresAt` (ms since the epoch). A value that has already expired is not kept. */
  set(key: string, value: Value, expiresAt: number): void
  delete(key: string): void
  /** Removes every entry for which `covers` is true; returns how many. */
  purge(covers: (value: Value) => boolean): number
  readonly size: number
}

/**
 * A key out of parts that cannot run into each other: each part is preceded by its length, so that
 * ("a", "bc") and ("ab", "c") differ whatever characters they hold.
 */
export const cacheKey = (...parts: readonly string[]): string => {
  let key = ''
  for (const part of parts) key += `${part.length}:${part}`
  return key
}
