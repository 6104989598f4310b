/**
 * Where one schema refuses what another takes. It may name a place too many and never one too few: a change that it
 * calls compatible is.
 */
import { isObject, pointerStep } from './json.ts'
import { mergeAll } from './schema-merge.ts'
import type { JsonSchema } from './tool.ts'

/** A place where values that were taken are refused. */
export interface Narrowing {
  /** JSON pointer into a value; `*` stands for each element or member. */
  readonly at: string
  readonly message: string
}

const ALL = ['null', 'boolean', 'object', 'array', 'number', 'string']

const typesOf = ({ type }: JsonSchema): readonly string[] =>
  typeof type === 'string' ? [type] : Array.isArray(type) ? (type as string[]) : ALL

const schemaOf = (value: unknown): JsonSchema => (isObject(value) ? value : {})
const schemasOf = (value: unknown): readonly JsonSchema[] => (Array.isArray(value) ? value.map(schemaOf) : [])
const namesOf = (value: unknown): readonly string[] => (Array.isArray(value) ? (value as string[]) : [])
const numberOf = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined)

/** A schema that no value fits. */
const isNever = ({ not }: JsonSchema): boolean => isObject(not) && Object.keys(not).length === 0

const sameJson = (left: unknown, right: unknown): boolean => JSON.stringify(left) === JSON.stringify(right)

const takes = (types: readonly string[], type: string): boolean =>
  types.includes(type) || (type === 'integer' && types.includes('number'))

const typeNarrowings = (from: JsonSchema, to: JsonSchema, at: string): Narrowing[] => {
  const [before, after] = [typesOf(from), typesOf(to)]
  const lost = before.filter((type) => !takes(after, type))
  return lost.length === 0 ? [] : [{ at, message: `it no longer takes ${lost.join(' or ')}` }]
}

const valuesIn = (schema: JsonSchema): readonly unknown[] | undefined =>
  'const' in schema ? [schema.const] : Array.isArray(schema.enum) ? (schema.enum as unknown[]) : undefined

const valueNarrowings = (from: JsonSchema, to: JsonSchema, at: string): Narrowing[] => {
  const [before, after] = [valuesIn(from), valuesIn(to)]
  if (after === undefined) return []
  if (before === undefined) return [{ at, message: `it takes certain values only` }]
  const lost = before.filter((each) => !after.includes(each))
  return lost.length === 0
    ? []
    : [
        {
          at,
          message: `it no longer takes ${lost
            .slice(0, 5)
            .map((each) => JSON.stringify(each))
            .join(', ')
            .slice(0, 200)}`,
        },
      ]
}

/** Bounds: the keyword, the types that it is for, and whether a larger one is narrower. */
const BOUNDS: readonly (readonly [string, readonly string[], 'least' | 'most'])[] = [
  ['minimum', ['number', 'integer'], 'least'],
  ['maximum', ['number', 'integer'], 'most'],
  ['exclusiveMinimum', ['number', 'integer'], 'least'],
  ['exclusiveMaximum', ['number', 'integer'], 'most'],
  ['minLength', ['string'], 'least'],
  ['maxLength', ['string'], 'most'],
  ['minItems', ['array'], 'least'],
  ['maxItems', ['array'], 'most'],
  ['minProperties', ['object'], 'least'],
  ['maxProperties', ['object'], 'most'],
]

const boundNarrowings = (from: JsonSchema, to: JsonSchema, at: string): Narrowing[] =>
  BOUNDS.flatMap(([name, kinds, direction]) => {
    const [before, after] = [numberOf(from[name]), numberOf(to[name])]
    if (after === undefined || !typesOf(from).some((type) => kinds.includes(type))) return []
    const isKept = before !== undefined && (direction === 'least' ? before >= after : before <= after)
    return isKept ? [] : [{ at, message: `${name} is ${after}${before === undefined ? '' : `, and was ${before}`}` }]
  })

const textNarrowings = (from: JsonSchema, to: JsonSchema, at: string): Narrowing[] => {
  const types = typesOf(from)
  const found: Narrowing[] = []
  if (to.pattern !== undefined && to.pattern !== from.pattern && types.includes('string'))
    found.push({ at, message: 'it has to match another pattern' })
  if (to.uniqueItems === true && from.uniqueItems !== true && types.includes('array'))
    found.push({ at, message: 'its elements have to differ' })
  const [before, after] = [numberOf(from.multipleOf), numberOf(to.multipleOf)]
  const isMultiple = after === undefined || (before !== undefined && before % after === 0)
  if (!isMultiple && types.some((type) => type === 'number' || type === 'integer'))
    found.push({ at, message: `it has to be a multiple of ${after}` })
  return found
}

/** The schema of a member or element, by what is said of all others; undefined: there can be none. */
const restOf = (rest: unknown): JsonSchema | undefined => (rest === false ? undefined : schemaOf(rest))

const memberNarrowings = (from: JsonSchema, to: JsonSchema, at: string): Narrowing[] => {
  if (!typesOf(from).includes('object')) return []
  const [before, after] = [schemaOf(from.properties), schemaOf(to.properties)]
  const [restBefore, restAfter] = [restOf(from.additionalProperties), restOf(to.additionalProperties)]
  const found = [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((name): Narrowing[] => {
    const place = at + pointerStep(name)
    const wasSchema = Object.hasOwn(before, name) ? schemaOf(before[name]) : restBefore
    const isSchema = Object.hasOwn(after, name) ? schemaOf(after[name]) : restAfter
    if (wasSchema === undefined || isNever(wasSchema)) return []
    return isSchema === undefined
      ? [{ at: place, message: 'it no longer exists' }]
      : narrowings(wasSchema, isSchema, place)
  })
  const others =
    restBefore === undefined
      ? []
      : restAfter === undefined
        ? [{ at, message: 'it takes no other members' }]
        : narrowings(restBefore, restAfter, `${at}/*`)
  const required = namesOf(to.required)
    .filter((name) => !namesOf(from.required).includes(name))
    .map((name) => ({ at: at + pointerStep(name), message: 'it is required' }))
  return [...found, ...others, ...required]
}

const elementNarrowings = (from: JsonSchema, to: JsonSchema, at: string): Narrowing[] => {
  if (!typesOf(from).includes('array')) return []
  const [before, after] = [schemasOf(from.prefixItems), schemasOf(to.prefixItems)]
  const first = Array.from({ length: Math.max(before.length, after.length) }, (_, index) =>
    narrowings(before[index] ?? schemaOf(from.items), after[index] ?? schemaOf(to.items), `${at}/${index}`),
  )
  return [...first.flat(), ...narrowings(schemaOf(from.items), schemaOf(to.items), `${at}/*`)]
}

const without = (schema: JsonSchema, name: string): JsonSchema => {
  const { [name]: _, ...rest } = schema
  return rest
}

/** The forms that a schema is a choice of, each whole. */
const formsOf = (schema: JsonSchema): JsonSchema[] | undefined => {
  if (!Array.isArray(schema.anyOf)) return undefined
  const rest = without(schema, 'anyOf')
  return schemasOf(schema.anyOf).map((each) => mergeAll([rest, each]))
}

/** A schema of several types as one schema for each. */
const byType = (schema: JsonSchema): JsonSchema[] =>
  Array.isArray(schema.type) && schema.type.length > 1
    ? (schema.type as string[]).map((type) => ({ ...schema, type }))
    : [schema]

const choiceNarrowings = (from: JsonSchema, choices: readonly JsonSchema[], at: string): Narrowing[] => {
  const lost = byType(from).filter((form) => choices.every((choice) => narrowings(form, choice, at).length > 0))
  return lost.length === 0 ? [] : [{ at, message: 'it fits none of the forms in every case' }]
}

/** Every place where `to` refuses a value that `from` takes. */
export const narrowings = (from: JsonSchema, to: JsonSchema, at = ''): Narrowing[] => {
  if (isNever(from) || sameJson(from, to)) return []
  if (isNever(to)) return [{ at, message: 'no value fits' }]
  const forms = formsOf(from)
  if (forms !== undefined) return forms.flatMap((form) => narrowings(form, to, at))
  if (Array.isArray(from.allOf)) {
    const parts = [without(from, 'allOf'), ...schemasOf(from.allOf)]
    const each = parts.map((part) => narrowings(part, to, at))
    return each.find((found) => found.length === 0) ?? each[0]!
  }
  if (Array.isArray(to.allOf))
    return [without(to, 'allOf'), ...schemasOf(to.allOf)].flatMap((part) => narrowings(from, part, at))
  if (Array.isArray(to.anyOf))
    return [...narrowings(from, without(to, 'anyOf'), at), ...choiceNarrowings(from, schemasOf(to.anyOf), at)]
  return [
    ...typeNarrowings(from, to, at),
    ...valueNarrowings(from, to, at),
    ...boundNarrowings(from, to, at),
    ...textNarrowings(from, to, at),
    ...memberNarrowings(from, to, at),
    ...elementNarrowings(from, to, at),
  ]
}
