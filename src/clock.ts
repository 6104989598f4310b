import { randomFillSync } from 'node:crypto'

/** Time as an argument: milliseconds since the Unix epoch. */
export interface Clock {
  now(): number
}
export const systemClock: Clock = { now: () => Date.now() }

/** Randomness as an argument: `bytes(n)` returns n bytes from a cryptographically strong source. */
export interface Random {
  bytes(length: number): Uint8Array
}

const POOL = 8192

/** The system's source, read in larger portions: many small readings cost more than one. No byte is given out twice. */
export const createSystemRandom = (): Random => {
  const pool = Buffer.alloc(POOL)
  let used = POOL
  return {
    bytes(length) {
      if (length > POOL) return randomFillSync(Buffer.alloc(length))
      if (used + length > POOL) {
        randomFillSync(pool)
        used = 0
      }
      const bytes = Buffer.from(pool.subarray(used, used + length))
      pool.fill(0, used, used + length)
      used += length
      return bytes
    },
  }
}

/** NumericDate of JWTs (RFC 7519 section 2): whole seconds since the Unix epoch. */
export const toSeconds = (milliseconds: number): number => Math.floor(milliseconds / 1000)
