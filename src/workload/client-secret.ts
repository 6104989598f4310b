import { hash as digest, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { LRUCache } from 'lru-cache'
import type { Random } from '../clock.ts'
import { lengthPrefixed } from '../crypto/additional-data.ts'
import type { Secret } from '../crypto/secret.ts'
import { refuse } from '../errors.ts'

const derive = promisify<string, Buffer, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(scrypt)

/** Cost that OWASP names for scrypt (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html). */
const COST = { N: 2 ** 17, r: 8, p: 1 } as const
const BYTES = 32
const LARGEST_MEMORY = 256 * 1024 * 1024
const LARGEST_P = 16
const maxmem = LARGEST_MEMORY + 1_048_576
/** Checks that may wait for their turn; who comes after is told to come later. */
const LONGEST_QUEUE = 16

/** The slow hash of a client secret, as it stands in a server's file: `scrypt$N$r$p$salt$hash`, base64url. */
export const hashClientSecret = async (secret: Secret, random: Random): Promise<string> => {
  const salt = Buffer.from(random.bytes(16))
  const hash = await derive(secret.reveal(), salt, BYTES, { ...COST, maxmem })
  return ['scrypt', COST.N, COST.r, COST.p, salt.toString('base64url'), hash.toString('base64url')].join('$')
}

interface StoredHash {
  readonly cost: { readonly N: number; readonly r: number; readonly p: number }
  readonly salt: Buffer
  readonly hash: Buffer
}

const FORM = /^scrypt\$([1-9]\d{0,7})\$([1-9]\d?)\$([1-9]\d?)\$([\w-]+)\$([\w-]+)$/

/** The parts of a stored hash; undefined when it is malformed or would cost more than a daemon should pay. */
export const parseStoredHash = (stored: string): StoredHash | undefined => {
  const [, n, r, p, salt, hash] = FORM.exec(stored) ?? []
  if (salt === undefined || hash === undefined) return undefined
  const cost = { N: Number(n), r: Number(r), p: Number(p) }
  const isPowerOfTwo = cost.N > 1 && (cost.N & (cost.N - 1)) === 0
  if (!isPowerOfTwo || 128 * cost.N * cost.r > LARGEST_MEMORY || cost.p > LARGEST_P) return undefined
  const parsed = { cost, salt: Buffer.from(salt, 'base64url'), hash: Buffer.from(hash, 'base64url') }
  return parsed.hash.length === BYTES && parsed.salt.length > 0 ? parsed : undefined
}

const matches = async (secret: Secret, stored: string): Promise<boolean> => {
  const parsed = parseStoredHash(stored)
  if (parsed === undefined) return false
  const actual = await derive(secret.reveal(), parsed.salt, BYTES, { ...parsed.cost, maxmem })
  return timingSafeEqual(actual, parsed.hash)
}

/**
 * Checks client secrets. One that was right is remembered by a keyed digest of secret and stored hash, in memory and
 * under a key of this process, so that the slow hash is paid once and not by every request. Wrong ones are not
 * remembered: each guess costs the full price, guesses wait for each other, and only so many wait.
 * @throws DeputyError `rate_limited`
 */
export const createClientSecretCheck = (random: Random) => {
  const key = random.bytes(32)
  const right = new LRUCache<string, true>({ max: 1000 })
  let queue: Promise<unknown> = Promise.resolve()
  let waiting = 0
  return async (secret: Secret, stored: string): Promise<boolean> => {
    // Digested in one call with a key of this process in front: the digest never leaves this map, so no HMAC is needed.
    const memory = digest('sha256', Buffer.concat([key, lengthPrefixed(stored, secret.reveal())]), 'base64')
    if (right.has(memory)) return true
    if (waiting >= LONGEST_QUEUE) throw refuse('rate_limited', { what: 'client secrets that are new here', seconds: 5 })
    waiting += 1
    const turn = queue
      .then(() => matches(secret, stored))
      .finally(() => {
        waiting -= 1
      })
    queue = turn.catch(() => undefined)
    const correct = await turn
    if (correct) right.set(memory, true)
    return correct
  }
}
