import type { Random } from '#clock'

/** A text that was never drawn before. @param bytes of randomness: 12 for what is only told apart, 16 and more for what must not be guessed */
export const randomText = (random: Random, bytes: number): string =>
  Buffer.from(random.bytes(bytes)).toString('base64url')
