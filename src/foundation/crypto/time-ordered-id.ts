import type { Clock, Random } from '#clock'

/**
 * Crockford's base32 in small letters. Its order is that of the bytes, and also that of every collation of a database,
 * because it has digits and one case alone; base64url's order is neither. It lacks letters that are taken for another
 * one.
 */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
/** Two characters for each ten bits. */
const PAIRS = Array.from({ length: 1024 }, (_, bits) => `${ALPHABET[bits >> 5]!}${ALPHABET[bits & 31]!}`)

const MAX_TIME = 2 ** 48 - 1
/** Bytes of randomness: 80 bits, 16 characters. */
const RANDOM_BYTES = 10

/**
 * 48 bits as ten characters. @param time ms since the epoch; a clock before it or after the year 10889 counts as the
 * nearest moment
 */
const timeText = (time: number): string => {
  let rest = Math.min(Math.max(Math.floor(time), 0), MAX_TIME)
  let text = ''
  for (let pair = 0; pair < 5; pair += 1) {
    text = PAIRS[rest % 1024]! + text
    rest = Math.floor(rest / 1024)
  }
  return text
}

/** Eighty bits as sixteen characters. */
const randomBits = (bytes: Uint8Array): string => {
  let text = ''
  for (let at = 0; at < RANDOM_BYTES; at += 5) {
    const [a, b, c, d, e] = [bytes[at]!, bytes[at + 1]!, bytes[at + 2]!, bytes[at + 3]!, bytes[at + 4]!]
    text +=
      PAIRS[(a << 2) | (b >> 6)]! +
      PAIRS[((b & 63) << 4) | (c >> 4)]! +
      PAIRS[((c & 15) << 6) | (d >> 2)]! +
      PAIRS[((d & 3) << 8) | e]!
  }
  return text
}

/**
 * Makes ids that are told apart and sort by the time at which they were made: a ULID in small letters, 48 bits of time
 * and 80 of randomness. What is indexed by them is written at one end of the index, where a random id makes a page of
 * its own dirty for each row. An id tells when it was made, and is no secret.
 */
export const createTimeOrderedIds = ({
  clock,
  random,
}: {
  readonly clock: Clock
  readonly random: Random
}): (() => string) => {
  let last = { time: NaN, text: '' }
  return () => {
    const time = clock.now()
    if (time !== last.time) last = { time, text: timeText(time) }
    return last.text + randomBits(random.bytes(RANDOM_BYTES))
  }
}
