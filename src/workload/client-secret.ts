import { createHmac, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { LRUCache } from 'lru-cache'
import type { Random } from '../clock.ts'
import { lengthPrefixed } from '../crypto/additional-data.ts'
import type { Secret } from '../crypto/secret.ts'

const derive = promisify<string, Buffer, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(scrypt)

/** Cost that OWASP names for scrypt (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html). */
const COST = { N: 2 ** 17, r: 8, p: 1 } as const
const BYTES = 32
const LARGEST = { N: 2 ** 20, r: 32, p: 16 } as const
const maxmem = 256 * 1024 * 1024 + 1024

/** The slow hash of a client secret, as it stands in a server's file: `scrypt$N$r$p$salt$hash`, base64url. */
export const hashClientSecret = async (secret: Secret, random: Random): Promise<string> => {
  const salt = Buffer.from(random.bytes(16))
  const hash = await derive(secret.reveal(), salt, BYTES, { ...COST, maxmem })
  return ['scrypt', COST.N, COST.r, COST.p, salt.toString('base64url'), hash.toString('base64url')].join('$')
}

const matches = async (secret: Secret, stored: string): Promise<boolean> => {
  const [scheme, n, r, p, salt, hash] = stored.split('$')
  const cost = { N: Number(n), r: Number(r), p: Number(p) }
  if (scheme !== 'scrypt' || salt === undefined || hash === undefined) return false
  if (!(cost.N <= LARGEST.N && cost.r <= LARGEST.r && cost.p <= LARGEST.p)) return false
  const expected = Buffer.from(hash, 'base64url')
  if (expected.length !== BYTES) return false
  const actual = await derive(secret.reveal(), Buffer.from(salt, 'base64url'), BYTES, { ...cost, maxmem })
  return timingSafeEqual(actual, expected)
}

/**
 * Checks client secrets. One that was right is remembered by a keyed hash of secret and stored hash, in memory and
 * under a key of this process, so that the slow hash is paid once and not by every request. Wrong ones are not
 * remembered: each guess costs the full price, and guesses wait for each other.
 */
export const createClientSecretCheck = (random: Random) => {
  const key = random.bytes(32)
  const right = new LRUCache<string, true>({ max: 1000 })
  let queue: Promise<unknown> = Promise.resolve()
  return async (secret: Secret, stored: string): Promise<boolean> => {
    const memory = createHmac('sha256', key).update(lengthPrefixed(stored, secret.reveal())).digest('base64')
    if (right.has(memory)) return true
    const turn = queue.then(() => matches(secret, stored))
    queue = turn.catch(() => undefined)
    const correct = await turn
    if (correct) right.set(memory, true)
    return correct
  }
}
