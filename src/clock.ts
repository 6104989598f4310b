/** Time as an argument: milliseconds since the Unix epoch. */
export interface Clock { now(): number }
export const systemClock: Clock = { now: () => Date.now() }

/** Randomness as an argument: `bytes(n)` returns n bytes from a cryptographically strong source. */
export interface Random { bytes(length: number): Uint8Array }

/** NumericDate of JWTs (RFC 7519 section 2): whole seconds since the Unix epoch. */
export const toSeconds = (milliseconds: number): number => Math.floor(milliseconds / 1000)
