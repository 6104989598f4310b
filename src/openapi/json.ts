import { ownValue } from '#foundation/text'

/** A member of a document that has members itself. */
export type JsonObject = Readonly<Record<string, unknown>>

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Whether a value has objects or lists below so many levels. */
export const isDeeperThan = (levels: number, value: unknown): boolean => {
  if (typeof value !== 'object' || value === null) return false
  return levels <= 0 || Object.values(value).some((each) => isDeeperThan(levels - 1, each))
}

/** The object under a name; undefined where there is none, or something else. */
export const objectAt = (parent: JsonObject | undefined, name: string): JsonObject | undefined => {
  const value = parent === undefined ? undefined : ownValue(parent, name)
  return isObject(value) ? value : undefined
}

/** The list under a name; empty where there is none. */
export const listAt = (parent: JsonObject | undefined, name: string): readonly unknown[] => {
  const value = parent === undefined ? undefined : ownValue(parent, name)
  return Array.isArray(value) ? value : []
}

/** The text under a name; undefined where there is none. */
export const textAt = (parent: JsonObject | undefined, name: string): string | undefined => {
  const value = parent === undefined ? undefined : ownValue(parent, name)
  return typeof value === 'string' ? value : undefined
}

/** A step of a JSON pointer (RFC 6901 section 3). */
export const pointerStep = (name: string | number): string =>
  `/${String(name).replaceAll('~', '~0').replaceAll('/', '~1')}`

/** A JSON pointer of steps. */
export const pointerOf = (steps: readonly (string | number)[]): string => steps.map(pointerStep).join('')

/** The steps of a JSON pointer. */
export const stepsOf = (pointer: string): string[] =>
  pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
