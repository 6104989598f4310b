import { ownValue } from '#foundation/text'
import type { ApiDocument } from './document.ts'
import { isObject, type JsonObject, stepsOf, textAt } from './json.ts'

/** Steps of references that lead to references. */
const MAX_HOPS = 50

/** What a reference leads to, and its name: the same for the same part. */
export interface Target {
  readonly value: JsonObject
  readonly name: string
}

/** What a conversion of a named part gave, and what it took. */
export interface Remembered {
  /** Undefined: it did not fit into `cost` characters. */
  readonly schema: JsonObject | undefined
  readonly cost: number
  readonly losses: Readonly<Record<string, number>>
}

export interface References {
  /** Conversions of parts that contain no cycle: they are the same wherever the part stands. */
  readonly remembered: Map<string, Remembered>
  /** The part that a reference leads to; undefined where it leads nowhere, or out of the document. */
  find(reference: string): Target | undefined
  /** The part itself, or what its chain of references leads to; a member beside `$ref` wins, as in OpenAPI 3.1. */
  follow(value: unknown): JsonObject | undefined
}

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

const atPointer = (root: unknown, pointer: string): unknown => {
  let value: unknown = root
  for (const step of stepsOf(pointer)) {
    if (Array.isArray(value)) value = value[Number(step)]
    else if (isObject(value)) value = ownValue(value, step)
    else return undefined
  }
  return value
}

/**
 * Parts that are named by `$id`, `$anchor` or `$dynamicAnchor` (JSON Schema 2020-12 section 8.2), in `components` only.
 */
const namedParts = (root: JsonObject): Map<string, JsonObject> => {
  const found = new Map<string, JsonObject>()
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) return value.forEach(walk)
    if (!isObject(value)) return
    for (const [keyword, prefix] of [
      ['$id', ''],
      ['$anchor', '#'],
      ['$dynamicAnchor', '#'],
    ] as const) {
      const name = textAt(value, keyword)
      if (name !== undefined && !found.has(prefix + name)) found.set(prefix + name, value)
    }
    for (const [key, inner] of Object.entries(value)) if (key !== 'examples' && key !== 'example') walk(inner)
  }
  walk(root.components)
  return found
}

/** Finds references of one document. Nothing outside of it is read. */
export const createReferences = ({ root }: ApiDocument): References => {
  let named: Map<string, JsonObject> | undefined
  const found = new Map<string, Target | undefined>()

  const lookUp = (reference: string): Target | undefined => {
    const hash = reference.indexOf('#')
    const fragment = hash < 0 ? '' : decode(reference.slice(hash + 1))
    const base = hash < 0 ? reference : reference.slice(0, hash)
    if (base === '' && (fragment === '' || fragment.startsWith('/'))) {
      const value = atPointer(root, fragment)
      return isObject(value) ? { value, name: `#${fragment}` } : undefined
    }
    named ??= namedParts(root)
    const start = base === '' ? undefined : (named.get(base) ?? named.get(`${base}#`))
    if (base !== '' && start === undefined) return undefined
    const value =
      fragment === '' ? start : fragment.startsWith('/') ? atPointer(start, fragment) : named.get(`#${fragment}`)
    return isObject(value) ? { value, name: reference } : undefined
  }
  const find = (reference: string): Target | undefined => {
    if (!found.has(reference)) found.set(reference, lookUp(reference))
    return found.get(reference)
  }
  const follow = (value: unknown): JsonObject | undefined => {
    let part: unknown = value
    let beside: JsonObject = {}
    for (let hops = 0; hops < MAX_HOPS; hops += 1) {
      if (!isObject(part)) return undefined
      const reference = textAt(part, '$ref')
      if (reference === undefined) return Object.keys(beside).length === 0 ? part : { ...part, ...beside }
      const { $ref: _, ...rest } = part
      beside = { ...rest, ...beside }
      part = find(reference)?.value
    }
    return undefined
  }
  return { find, follow, remembered: new Map() }
}
