/**
 * Reads an object whose fields are known, and nothing else of it. Two threads of each daemon read lines of segments and
 * need no other schema: to load zod for them was a quarter of the CPU time of their start.
 */

/** What each field must be. */
export type Fields<Of extends object> = { readonly [Name in keyof Of]-?: (value: unknown) => value is Of[Name] }

export const isText = (value: unknown): value is string => typeof value === 'string'
export const isNullOr =
  <Of>(is: (value: unknown) => value is Of) =>
  (value: unknown): value is Of | null =>
    value === null || is(value)
/** A whole number of at least 0. */
export const isCount = (value: unknown): value is number => isNumberFrom(0, value)
/** A whole number of at least 1. */
export const isOrdinal = (value: unknown): value is number => isNumberFrom(1, value)
/** SHA-256, hex. */
export const isHash = (value: unknown): value is string => isText(value) && /^[\da-f]{64}$/.test(value)

const isNumberFrom = (least: number, value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= least

/** @returns a new object with these fields in this order; undefined for what lacks one, has another, or has one that is wrong */
export const readFields = <Of extends object>(fields: Fields<Of>, value: unknown): Of | undefined => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const names = Object.keys(fields) as (keyof Of & string)[]
  if (Object.keys(value).length !== names.length) return undefined
  const read: Partial<Of> = {}
  for (const name of names) {
    const field: unknown = Object.hasOwn(value, name) ? (value as Partial<Record<string, unknown>>)[name] : undefined
    if (!fields[name](field)) return undefined
    read[name] = field
  }
  return read as Of
}
