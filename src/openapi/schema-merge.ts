/**
 * Schemas that all apply, as one: `allOf` of objects is what most documents write for inheritance, and clients read one
 * object better.
 */
import { isObject } from './json.ts'
import type { JsonSchema } from './tool.ts'

const sameJson = (left: unknown, right: unknown): boolean => JSON.stringify(left) === JSON.stringify(right)

const typeList = ({ type }: JsonSchema): readonly string[] | undefined =>
  typeof type === 'string' ? [type] : Array.isArray(type) ? (type as string[]) : undefined

/** Undefined where no value has both types. */
const commonTypes = (left: readonly string[], right: readonly string[]): string[] | undefined => {
  const both = left.flatMap((type) => {
    if (right.includes(type)) return [type]
    if (type === 'number' && right.includes('integer')) return ['integer']
    return type === 'integer' && right.includes('number') ? [type] : []
  })
  return both.length === 0 ? undefined : both
}

/** One keyword of both; undefined where both cannot stand in one schema. */
const mergeKeyword = (name: string, left: unknown, right: unknown): { readonly value: unknown } | undefined => {
  if (sameJson(left, right)) return { value: left }
  switch (name) {
    case 'description':
    case 'title':
    case 'default':
      return { value: left }
    case 'required':
      return { value: [...new Set([...(left as string[]), ...(right as string[])])] }
    case 'properties':
      return { value: mergeProperties(left as Record<string, JsonSchema>, right as Record<string, JsonSchema>) }
    case 'items':
      return { value: mergeAll([left as JsonSchema, right as JsonSchema]) }
    case 'enum': {
      const both = (left as unknown[]).filter((each) => (right as unknown[]).includes(each))
      return both.length === 0 ? undefined : { value: both }
    }
    case 'minimum':
    case 'minLength':
    case 'minItems':
    case 'minProperties':
      return { value: Math.max(left as number, right as number) }
    case 'maximum':
    case 'maxLength':
    case 'maxItems':
    case 'maxProperties':
      return { value: Math.min(left as number, right as number) }
    default:
      return undefined
  }
}

const mergeProperties = (
  left: Readonly<Record<string, JsonSchema>>,
  right: Readonly<Record<string, JsonSchema>>,
): Record<string, JsonSchema> => {
  const merged: Record<string, JsonSchema> = { ...left }
  for (const [name, each] of Object.entries(right))
    merged[name] = Object.hasOwn(left, name) ? mergeAll([left[name]!, each]) : each
  return merged
}

/** Both as one schema; undefined where that says something else. */
const mergeTwo = (left: JsonSchema, right: JsonSchema): JsonSchema | undefined => {
  const [leftTypes, rightTypes] = [typeList(left), typeList(right)]
  const types =
    leftTypes === undefined || rightTypes === undefined ? (leftTypes ?? rightTypes) : commonTypes(leftTypes, rightTypes)
  if (types === undefined && leftTypes !== undefined) return undefined
  const merged: Record<string, unknown> = types === undefined ? {} : { type: types.length === 1 ? types[0] : types }
  for (const name of new Set([...Object.keys(left), ...Object.keys(right)])) {
    if (name === 'type' || name === 'additionalProperties') continue
    if (!Object.hasOwn(right, name)) merged[name] = left[name]
    else if (!Object.hasOwn(left, name)) merged[name] = right[name]
    else {
      const both = mergeKeyword(name, left[name], right[name])
      if (both === undefined) return undefined
      merged[name] = both.value
    }
  }
  // In `allOf` a closed object refuses the members of its siblings, which no author means.
  const [one, other] = [left.additionalProperties, right.additionalProperties]
  if (one !== undefined && sameJson(one, other)) merged.additionalProperties = one
  else if (isObject(one) && other === undefined && !Object.hasOwn(right, 'properties'))
    merged.additionalProperties = one
  else if (isObject(other) && one === undefined && !Object.hasOwn(left, 'properties'))
    merged.additionalProperties = other
  else if (one === false && !Object.hasOwn(right, 'properties')) merged.additionalProperties = false
  else if (other === false && !Object.hasOwn(left, 'properties')) merged.additionalProperties = false
  return merged
}

/** Schemas that are compared with each further one. */
const MAX_COMPARED = 8

/** The first of some schemas that can be one with another. */
const firstMerge = (
  apart: readonly JsonSchema[],
  schema: JsonSchema,
): { readonly at: number; readonly both: JsonSchema } | undefined => {
  for (const [at, each] of apart.slice(0, MAX_COMPARED).entries()) {
    const both = mergeTwo(each, schema)
    if (both !== undefined) return { at, both }
  }
  return undefined
}

/** One schema that says what all of them say; those that cannot be one stay in `allOf`. */
export const mergeAll = (schemas: readonly JsonSchema[]): JsonSchema => {
  const apart: JsonSchema[] = []
  for (const schema of schemas) {
    if (Object.keys(schema).length === 0) continue
    const merged = firstMerge(apart, schema)
    if (merged === undefined) apart.push(schema)
    else apart[merged.at] = merged.both
  }
  if (apart.length === 0) return {}
  if (apart.length === 1) return apart[0]!
  const [first, ...others] = apart
  return Object.hasOwn(first!, 'allOf') ? { allOf: apart } : { ...first, allOf: others }
}
