import { createHash } from 'node:crypto'
import { sortedJson } from '#foundation/text'

/** SHA-256 of arguments, in hex: the same for the same arguments, in any order of their members. */
export const digestOf = (args: unknown): string =>
  createHash('sha256')
    .update(sortedJson(args ?? null))
    .digest('hex')
