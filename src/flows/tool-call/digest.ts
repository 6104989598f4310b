import { createHash } from 'node:crypto'

/** Objects with their members in one order: a client may send them in any. */
const sorted = (_key: string, value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value

/** SHA-256 of arguments, in hex: the same for the same arguments, in any order of their members. */
export const digestOf = (args: unknown): string =>
  createHash('sha256')
    .update(JSON.stringify(args ?? null, sorted))
    .digest('hex')
