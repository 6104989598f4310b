import { hash as digest, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { parseStoredHash } from '#config'
import { createLru } from '#foundation/lru'
import type { Random } from '#clock'
import { refuse } from '#errors'
import { lengthPrefixed, type Secret } from '#foundation/crypto'

const derive = promisify<string, Buffer, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(scrypt)

/** Cost that OWASP names for scrypt (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html). */
const COST = { N: 2 ** 17, r: 8, p: 1 } as const
const BYTES = 32
const LARGEST_MEMORY = 256 * 1024 * 1024
const maxmem = LARGEST_MEMORY + 1_048_576
/** Checks of one client that may wait for their turn; later ones are refused for now. */
const MAX_WAITING = 16
/** Ids without a client that may wait each for itself. */
const MAX_UNKNOWN = 64

/** Parameters of scrypt (RFC 7914 section 2). */
interface Cost {
  readonly N: number
  readonly r: number
  readonly p: number
}

/** The slow hash of a client secret, as it stands in a server's file: `scrypt$N$r$p$salt$hash`, base64url. */
export const hashClientSecret = async (secret: Secret, random: Random, cost: Cost = COST): Promise<string> => {
  const salt = Buffer.from(random.bytes(16))
  const hash = await derive(secret.reveal(), salt, BYTES, { ...cost, maxmem })
  return ['scrypt', cost.N, cost.r, cost.p, salt.toString('base64url'), hash.toString('base64url')].join('$')
}

const matches = async (secret: Secret, stored: string): Promise<boolean> => {
  const parsed = parseStoredHash(stored)
  if (parsed === undefined) return false
  const actual = await derive(secret.reveal(), parsed.salt, BYTES, { ...parsed.cost, maxmem })
  return timingSafeEqual(actual, parsed.hash)
}

interface Waiting {
  readonly work: () => Promise<boolean>
  readonly done: (outcome: Promise<boolean>) => void
}

/**
 * One check at a time, because each takes 128 MiB: clients take turns, whatever number of checks each has waiting, and
 * ids that no client has share one turn in two, so that made-up ids hold up no client.
 */
const createTurns = () => {
  const lanes: [known: Map<string, Waiting[]>, unknown: Map<string, Waiting[]>] = [new Map(), new Map()]
  let isBusy = false
  let last = 1

  const take = (lane: Map<string, Waiting[]>): Waiting | undefined => {
    const [client, waiting] = lane.entries().next().value ?? []
    const next = waiting?.shift()
    if (client === undefined || waiting === undefined) return undefined
    // To the end of the line, or out of it.
    lane.delete(client)
    if (waiting.length > 0) lane.set(client, waiting)
    return next
  }
  const run = (): void => {
    if (isBusy) return
    last = 1 - last
    const next = take(lanes[last]!) ?? take(lanes[1 - last]!)
    if (next === undefined) return
    isBusy = true
    const outcome = next.work()
    next.done(outcome)
    const over = (): void => {
      isBusy = false
      run()
    }
    outcome.then(over, over)
  }

  return {
    waiting: (lane: 0 | 1, client: string): number => lanes[lane]!.get(client)?.length ?? 0,
    clients: (lane: 0 | 1): number => lanes[lane]!.size,
    enter: (lane: 0 | 1, client: string, work: () => Promise<boolean>): Promise<boolean> =>
      new Promise((resolve) => {
        const waiting = lanes[lane]!.get(client) ?? []
        waiting.push({ work, done: resolve })
        lanes[lane]!.set(client, waiting)
        run()
      }),
  }
}

/**
 * Checks client secrets. One that was right is remembered by a keyed digest of secret and stored hash, in memory and
 * under a key of this process, so that the slow hash is paid once and not by every request. Equal checks at one moment are
 * one check. Wrong ones are not remembered: each guess costs the full price, guesses at one client wait for each other, and
 * only so many wait. An id that no client has costs the same, and is refused in the same words.
 * @returns a check. `stored`: undefined for an id without a secret, which is never right. `client`: the claimed id.
 * @param cost of a check for an id that no client has; the cost of every other stands in its stored hash
 * @throws DeputyError `rate_limited`
 */
export const createClientSecretCheck = (random: Random, cost: Cost = COST) => {
  const key = random.bytes(32)
  const right = createLru<string, true>({ max: 1000 })
  const underWay = new Map<string, Promise<boolean>>()
  const turns = createTurns()
  const nothing = ['scrypt', cost.N, cost.r, cost.p, 'bm90aGluZw', Buffer.alloc(BYTES).toString('base64url')].join('$')

  return async (secret: Secret, stored: string | undefined, client: string): Promise<boolean> => {
    const lane = stored === undefined ? 1 : 0
    // Digested in one call with a key of this process in front: the digest never leaves these maps, so no HMAC is needed.
    // Too many ids that no client has are checked as one: none of them is right, whatever is computed.
    const isOne = lane === 1 && turns.clients(lane) >= MAX_UNKNOWN
    const memory = isOne
      ? 'unknown'
      : digest('sha256', Buffer.concat([key, lengthPrefixed(stored ?? `unknown ${client}`, secret.reveal())]), 'base64')
    if (stored !== undefined && right.has(memory)) return true
    const equal = underWay.get(memory)
    if (equal !== undefined) return equal
    if (turns.waiting(lane, client) >= MAX_WAITING)
      throw refuse('rate_limited', { what: `new client secrets of ${client.slice(0, 100)}`, seconds: 5 })
    const check = turns
      .enter(lane, client, async () => (await matches(secret, stored ?? nothing)) && stored !== undefined)
      .then((correct) => {
        if (correct) right.set(memory, true)
        return correct
      })
      .finally(() => {
        underWay.delete(memory)
      })
    underWay.set(memory, check)
    return check
  }
}
export type CheckClientSecret = ReturnType<typeof createClientSecretCheck>
