import { z } from 'zod'

const HASH_BYTES = 32
const MAX_MEMORY_BYTES = 256 * 1024 * 1024
const MAX_PARALLELIZATION = 16
const FORM = /^scrypt\$([1-9]\d{0,7})\$([1-9]\d?)\$([1-9]\d?)\$([\w-]+)\$([\w-]+)$/

/** The parts of a slow hash (RFC 7914 section 2). */
export interface StoredHash {
  readonly cost: { readonly N: number; readonly r: number; readonly p: number }
  readonly salt: Buffer
  readonly hash: Buffer
}

/** The parts of a stored hash; undefined when it is malformed or would cost more than a daemon should pay. */
export const parseStoredHash = (stored: string): StoredHash | undefined => {
  const [, n, r, p, salt, hash] = FORM.exec(stored) ?? []
  if (salt === undefined || hash === undefined) return undefined
  const cost = { N: Number(n), r: Number(r), p: Number(p) }
  const isPowerOfTwo = cost.N > 1 && (cost.N & (cost.N - 1)) === 0
  if (!isPowerOfTwo || 128 * cost.N * cost.r > MAX_MEMORY_BYTES || cost.p > MAX_PARALLELIZATION) return undefined
  const parsed = { cost, salt: Buffer.from(salt, 'base64url'), hash: Buffer.from(hash, 'base64url') }
  return parsed.hash.length === HASH_BYTES && parsed.salt.length > 0 ? parsed : undefined
}

/** The slow hash of a client secret, as it stands in a file: a placeholder or a cut text would match no secret. */
export const clientSecretHashSchema = z
  .string()
  .regex(/^scrypt\$/, { error: 'write the output of `deputy server secret`', abort: true })
  .refine((text) => parseStoredHash(text) !== undefined, 'write the whole output of `deputy server secret`')
