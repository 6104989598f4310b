/** Answers reduced to the parts that the file of the API selects. */
import { ownValue } from '#foundation/text'
import { isObject, stepsOf } from './json.ts'
import type { JsonSchema } from './tool.ts'

/** Steps of all pointers as a tree; a leaf is empty and stands for all below it. */
type Tree = Map<string, Tree>

const treeOf = (pointers: readonly string[]): Tree => {
  const root: Tree = new Map()
  for (const pointer of pointers) {
    let at = root
    const steps = stepsOf(pointer)
    let isWhole = steps.length === 0
    for (const [index, step] of steps.entries()) {
      const next = at.get(step)
      // A pointer to a part selects all of it, whatever other pointers say of its parts.
      if (next?.size === 0) {
        isWhole = true
        break
      }
      const made: Tree = next ?? new Map()
      if (index === steps.length - 1) made.clear()
      at.set(step, made)
      at = made
    }
    if (isWhole && steps.length === 0) return new Map()
  }
  return root
}

const pick = (value: unknown, tree: Tree): unknown => {
  if (tree.size === 0) return value
  if (Array.isArray(value)) {
    const every = tree.get('*')
    if (every !== undefined) return value.map((each) => pick(each, every))
    return [...tree].flatMap(([step, inner]) =>
      /^\d+$/.test(step) && Number(step) < value.length ? [pick(value[Number(step)], inner)] : [],
    )
  }
  if (!isObject(value)) return undefined
  const every = tree.get('*')
  return Object.fromEntries(
    Object.keys(value).flatMap((name) => {
      const inner = tree.get(name) ?? every
      const picked = inner === undefined ? undefined : pick(value[name], inner)
      return picked === undefined ? [] : [[name, picked]]
    }),
  )
}

/**
 * A value reduced to the parts at some JSON pointers, each at its place; a step `*` stands for each element or member.
 */
export const project = (value: unknown, pointers: readonly string[]): unknown => pick(value, treeOf(pointers))

const pickSchema = (schema: unknown, tree: Tree): JsonSchema => {
  if (!isObject(schema)) return {}
  if (tree.size === 0) return schema
  const choices = schema.anyOf
  if (Array.isArray(choices)) return { ...schema, anyOf: choices.map((each) => pickSchema(each, tree)) }
  const every = tree.get('*')
  const { required: _, properties, items, prefixItems: _prefix, ...rest } = schema
  return {
    ...rest,
    ...(isObject(properties)
      ? {
          properties: Object.fromEntries(
            Object.entries(properties).flatMap(([name, each]) => {
              const inner = tree.get(name) ?? every
              return inner === undefined ? [] : [[name, pickSchema(each, inner)]]
            }),
          ),
        }
      : {}),
    ...(items === undefined
      ? {}
      : { items: pickSchema(items, every ?? [...tree.values()][0] ?? new Map<string, Tree>()) }),
  }
}

/** The schema of what `project` leaves. */
export const projectSchema = (schema: JsonSchema, pointers: readonly string[]): JsonSchema =>
  pickSchema(schema, treeOf(pointers))

/** The value at a JSON pointer; undefined where there is none. */
export const valueAt = (value: unknown, pointer: string): unknown =>
  stepsOf(pointer).reduce<unknown>((at, step) => {
    if (Array.isArray(at)) return at[Number(step)] as unknown
    return isObject(at) ? ownValue(at, step) : undefined
  }, value)
