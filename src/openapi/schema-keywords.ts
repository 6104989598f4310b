import { isObject, type JsonObject, listAt, textAt } from './json.ts'
import { kindOf } from './media.ts'
import { isSafePattern } from './pattern.ts'
import { type Conversion, spend } from './schema-context.ts'
import type { JsonSchema } from './tool.ts'
import { hasInvisible } from './words.ts'

const TYPES: ReadonlySet<string> = new Set(['null', 'boolean', 'object', 'array', 'number', 'string', 'integer'])

/** Formats of JSON Schema 2020-12 (Validation, section 7.3) that validators of clients know. */
const FORMATS: ReadonlySet<string> = new Set([
  'date-time',
  'date',
  'time',
  'duration',
  'email',
  'hostname',
  'ipv4',
  'ipv6',
  'uri',
  'uuid',
  // Records leave such values out.
  'password',
])

/** A longer list is left to the API. */
const MAX_VALUES = 300

const namedTypes = (type: unknown): string[] => {
  if (typeof type === 'string') return TYPES.has(type) ? [type] : type === 'file' ? ['string'] : []
  return Array.isArray(type) ? [...new Set((type as unknown[]).flatMap(namedTypes))] : []
}

/** The types of a schema: as it names them, else by the keywords it has; empty where any type fits. */
export const typesOf = (schema: JsonObject): string[] => {
  const types = namedTypes(schema.type)
  if (types.length === 0) {
    if (isObject(schema.properties)) types.push('object')
    else if (schema.items !== undefined || schema.prefixItems !== undefined) types.push('array')
  }
  const isNullable = schema.nullable === true || schema['x-nullable'] === true
  if (isNullable && types.length > 0 && !types.includes('null')) types.push('null')
  return types
}

/** Types of a value as it is told: a 64-bit integer of an answer is a text where a number cannot hold it. */
export const toldTypes = (schema: JsonObject, { direction }: Pick<Conversion, 'direction'>): string[] => {
  const types = typesOf(schema)
  const isWide = direction === 'out' && /^u?int64$/.test(textAt(schema, 'format') ?? '')
  return isWide && types.includes('integer') && !types.includes('string') ? [...types, 'string'] : types
}

const numberAt = (schema: JsonObject, name: string): number | undefined => {
  const value = schema[name]
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined
}

const isScalar = (value: unknown): boolean => value === null || ['string', 'number', 'boolean'].includes(typeof value)

const canRepeat = (value: unknown): boolean => typeof value !== 'string' || !hasInvisible(value)

/** `enum` and `const`, unless a reader could not see what the values are. */
const valuesOf = (schema: JsonObject, types: readonly string[], conversion: Conversion): JsonSchema => {
  const values = listAt(schema, 'enum')
  const single = schema.const
  if (single !== undefined && isScalar(single) && canRepeat(single)) return { const: single }
  if (values.length === 0 || values.length > MAX_VALUES || !values.every((each) => isScalar(each) && canRepeat(each)))
    return {}
  const all = types.includes('null') && !values.includes(null) ? [...values, null] : values
  // A value that the type excludes would be offered and refused.
  const fitting = [...new Set(all)].filter((value) => types.length === 0 || types.some((type) => isOf(value, type)))
  if (fitting.length === 0) return {}
  spend(
    conversion,
    fitting.reduce<number>((sum, each) => sum + String(each).length + 3, 0),
  )
  return { enum: fitting }
}

const isOf = (value: unknown, type: string): boolean => {
  if (type === 'null') return value === null
  if (type === 'integer') return Number.isInteger(value)
  return typeof value === type
}

const LARGEST = Number.MAX_SAFE_INTEGER

/** Bounds of numbers; those that a number cannot hold exactly are left out. */
const boundsOf = (schema: JsonObject): JsonSchema => {
  const bound = (name: 'minimum' | 'maximum', exclusive: 'exclusiveMinimum' | 'exclusiveMaximum'): JsonSchema => {
    const limit = name === 'minimum' ? -LARGEST : LARGEST
    const isBeyond = (value: number): boolean => (name === 'minimum' ? value < limit : value > limit)
    const [value, strict] = [numberAt(schema, name), numberAt(schema, exclusive)]
    if (value !== undefined && schema[exclusive] === true && !isBeyond(value)) return { [exclusive]: value }
    if (value !== undefined && !isBeyond(value))
      return { [name]: value, ...(strict === undefined || isBeyond(strict) ? {} : { [exclusive]: strict }) }
    if (strict !== undefined && !isBeyond(strict)) return { [exclusive]: strict }
    return {}
  }
  const step = numberAt(schema, 'multipleOf')
  return {
    ...bound('minimum', 'exclusiveMinimum'),
    ...bound('maximum', 'exclusiveMaximum'),
    // Fractions are not exact, so that a value which is a multiple could be refused.
    ...(step !== undefined && step >= 1 && Number.isInteger(step) ? { multipleOf: step } : {}),
  }
}

const countOf = (schema: JsonObject, names: readonly string[]): JsonSchema =>
  Object.fromEntries(
    names.flatMap((name) => {
      const value = numberAt(schema, name)
      return value !== undefined && value >= 0 && Number.isSafeInteger(value) ? [[name, value]] : []
    }),
  )

const textKeywords = (schema: JsonObject, conversion: Conversion): JsonSchema => {
  const [pattern, format] = [textAt(schema, 'pattern'), textAt(schema, 'format')]
  const isSafe = pattern !== undefined && isSafePattern(pattern) && !hasInvisible(pattern)
  if (pattern !== undefined && !isSafe) conversion.losses.patterns += 1
  return {
    ...countOf(schema, ['minLength', 'maxLength']),
    ...(isSafe ? { pattern } : {}),
    ...(format !== undefined && FORMATS.has(format) ? { format } : {}),
    ...encodingOf(schema),
  }
}

/**
 * What marks a text as the bytes of a file: they are sent as they are, where the form of the body has a place for them.
 */
export const FILE = { contentEncoding: 'base64', contentMediaType: 'application/octet-stream' } as const

/** Base64, or a file (`format: binary` of 3.0, a media type without an encoding in 3.1). */
const encodingOf = (schema: JsonObject): JsonSchema => {
  const [format, encoding] = [textAt(schema, 'format'), textAt(schema, 'contentEncoding')]
  const media = textAt(schema, 'contentMediaType')
  if (format === 'byte' || encoding === 'base64') return { contentEncoding: 'base64' }
  const isFile = format === 'binary' || schema.type === 'file' || encoding === 'binary'
  return isFile || (media !== undefined && encoding === undefined && kindOf(media) === 'binary') ? FILE : {}
}

/** The comparison of objects in a list takes the square of its length. */
const isComparable = (items: unknown): boolean =>
  isObject(items) && ['string', 'number', 'integer', 'boolean'].includes(String(items.type))

const defaultOf = (schema: JsonObject): JsonSchema => {
  const value = schema.default
  return value !== undefined && isScalar(value) && canRepeat(value) && String(value).length <= 200
    ? { default: value }
    : {}
}

/**
 * Keywords of one schema without schemas inside. Of an answer only its form is told: a service that is freer than its
 * document is no fault.
 */
export const keywordsOf = (schema: JsonObject, types: readonly string[], conversion: Conversion): JsonSchema => {
  const values = valuesOf(schema, types, conversion)
  if (conversion.direction === 'out') return values
  const isFor = (...kinds: readonly string[]): boolean =>
    types.length === 0 || kinds.some((kind) => types.includes(kind))
  return {
    ...values,
    ...defaultOf(schema),
    ...(isFor('string') ? textKeywords(schema, conversion) : {}),
    ...(isFor('number', 'integer') ? boundsOf(schema) : {}),
    ...(isFor('array') ? countOf(schema, ['minItems', 'maxItems']) : {}),
    ...(isFor('array') && schema.uniqueItems === true && isComparable(schema.items) ? { uniqueItems: true } : {}),
    ...(isFor('object') ? countOf(schema, ['minProperties', 'maxProperties']) : {}),
  }
}
