/**
 * A document of several files as one. Where files come from is the caller's: this file only says which one is needed.
 */
import { isObject, type JsonObject, pointerOf, stepsOf, textAt } from './json.ts'
import { versionOf } from './document.ts'
import { DocumentError } from './problem.ts'
import { ownValue } from '#foundation/text'

/** A file of a document, parsed. @throws DocumentError where it may not be read */
export type ReadFile = (location: string) => Promise<unknown>

const MAX_FILES = 200
/** Path items and parameters that refer to others. */
const MAX_NESTED = 20

/** Keywords whose values are schemas, lists of schemas, and schemas by name. */
const ONE: ReadonlySet<string> = new Set([
  'schema',
  'items',
  'additionalProperties',
  'not',
  'if',
  'then',
  'else',
  'contains',
  'propertyNames',
  'itemSchema',
  'unevaluatedItems',
  'unevaluatedProperties',
])
const LISTS: ReadonlySet<string> = new Set(['allOf', 'anyOf', 'oneOf', 'prefixItems'])
const NAMED: ReadonlySet<string> = new Set([
  'properties',
  'patternProperties',
  '$defs',
  'definitions',
  'dependentSchemas',
  'schemas',
])
/** Values of these are data of the API, and no part of the document. */
const DATA: ReadonlySet<string> = new Set(['example', 'examples', 'default', 'enum', 'const', 'x-examples'])

/** Where a part stands. */
interface Place {
  /** URL of the file that it is written in. */
  readonly file: string
  readonly path: readonly (string | number)[]
  /** References that were put in place around it. */
  readonly around: readonly string[]
}

const isNames = ({ path }: Place): boolean => NAMED.has(String(path.at(-1))) && !NAMED.has(String(path.at(-2)))

/** Values of `discriminator.mapping` are references, or names of schemas. */
const isMapping = ({ path }: Place): boolean => path.at(-2) === 'mapping' && path.at(-3) === 'discriminator'

const isSchemaPlace = ({ path }: Place): boolean => {
  const [last, before] = [String(path.at(-1)), String(path.at(-2))]
  return ONE.has(last) || LISTS.has(before) || NAMED.has(before)
}

const atPointer = (root: unknown, pointer: string): unknown =>
  stepsOf(pointer).reduce<unknown>(
    (at, step) => (Array.isArray(at) ? (at[Number(step)] as unknown) : isObject(at) ? ownValue(at, step) : undefined),
    root,
  )

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** `$id`s of the document: references to them stay in it. */
const idsIn = (root: unknown): Set<string> => {
  const ids = new Set<string>()
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) value.forEach(walk)
    else if (isObject(value)) {
      const id = textAt(value, '$id')
      if (id !== undefined) ids.add(id)
      Object.values(value).forEach(walk)
    }
  }
  walk(root)
  return ids
}

class Bundle {
  readonly #root: string
  readonly #read: ReadFile
  readonly #files = new Map<string, unknown>()
  readonly #ids: ReadonlySet<string>
  /** Schemas of other files, by file and pointer. */
  readonly #names = new Map<string, string>()
  readonly #taken: Set<string>
  readonly #prefix: string
  readonly #waiting: { readonly name: string; readonly value: unknown; readonly place: Place }[] = []
  readonly #schemas: Record<string, unknown> = {}

  constructor(root: string, data: JsonObject, read: ReadFile) {
    this.#root = root
    this.#read = read
    this.#files.set(root, data)
    this.#ids = idsIn(data)
    const isOld = typeof data.swagger === 'string'
    this.#prefix = isOld ? '#/definitions/' : '#/components/schemas/'
    const own = isOld ? data.definitions : isObject(data.components) ? data.components.schemas : undefined
    this.#taken = new Set(isObject(own) ? Object.keys(own) : [])
  }

  async #file(location: string, place: Place): Promise<unknown> {
    if (!this.#files.has(location)) {
      if (this.#files.size >= MAX_FILES)
        throw new DocumentError(
          `The document has more than ${MAX_FILES} files.`,
          'Bundle it with a tool of yours first.',
        )
      try {
        this.#files.set(location, await this.#read(location))
      } catch (error) {
        if (!(error instanceof DocumentError)) throw error
        throw new DocumentError(`${error.message} (${pointerOf(place.path)})`, error.fix, pointerOf(place.path))
      }
    }
    return this.#files.get(location)
  }

  /** What a reference becomes: another reference, or what it leads to. */
  async #resolve(reference: string, beside: JsonObject, place: Place): Promise<unknown> {
    if (this.#ids.has(reference.split('#', 1)[0]!) && !reference.startsWith('#')) return { $ref: reference, ...beside }
    const url = URL.parse(reference, place.file)
    if (url === null)
      throw new DocumentError(
        `${reference.slice(0, 200)} is no reference.`,
        'Write a path or URL.',
        pointerOf(place.path),
      )
    const hash = url.hash.slice(1)
    const fragment = decode(hash)
    url.hash = ''
    if (url.href === this.#root) return { $ref: `#${hash}`, ...beside }
    const file = await this.#file(url.href, place)
    const value = fragment === '' || fragment.startsWith('/') ? atPointer(file, fragment) : undefined
    if (value === undefined)
      throw new DocumentError(
        `${reference.slice(0, 200)} leads nowhere (${pointerOf(place.path)}).`,
        'Correct the reference.',
        pointerOf(place.path),
      )
    const key = `${url.href}#${fragment}`
    const target: Place = { file: url.href, path: place.path, around: [...place.around, key] }
    if (isSchemaPlace(place)) return { $ref: this.#prefix + this.#nameOf(key, value, target), ...beside }
    if (place.around.includes(key) || place.around.length >= MAX_NESTED)
      throw new DocumentError(
        `${reference.slice(0, 200)} contains itself (${pointerOf(place.path)}).`,
        'Only schemas may.',
        pointerOf(place.path),
      )
    const inner = await this.#walk(value, target)
    return isObject(inner) ? { ...inner, ...beside } : inner
  }

  async #mapped(reference: string, place: Place): Promise<string> {
    const isLocal = place.file === this.#root && reference.startsWith('#')
    if (isLocal || !/[#/]|\.(ya?ml|json)$/.test(reference)) return reference
    const resolved = await this.#resolve(reference, {}, { ...place, path: [...place.path, 'schema'] })
    return isObject(resolved) && typeof resolved.$ref === 'string' ? resolved.$ref : reference
  }

  /** The name under which a schema of another file is a schema of this document. */
  #nameOf(key: string, value: unknown, place: Place): string {
    const known = this.#names.get(key)
    if (known !== undefined) return known
    const last =
      decode(key)
        .split(/[/#]/)
        .findLast((each) => each !== '') ?? 'Schema'
    const wanted = last.replace(/\.(ya?ml|json)$/, '').replace(/[^A-Za-z0-9._-]/g, '_') || 'Schema'
    let name = wanted
    for (let at = 2; this.#taken.has(name); at += 1) name = `${wanted}_${at}`
    this.#taken.add(name)
    this.#names.set(key, name)
    this.#waiting.push({ name, value, place: { ...place, path: ['schemas', name], around: [] } })
    return name
  }

  async #walk(value: unknown, place: Place): Promise<unknown> {
    const { path } = place
    if (Array.isArray(value)) {
      const list: unknown[] = []
      for (const [at, each] of value.entries()) list.push(await this.#walk(each, { ...place, path: [...path, at] }))
      return list
    }
    if (typeof value === 'string' && isMapping(place)) return this.#mapped(value, place)
    if (!isObject(value)) return value
    const names = isNames(place)
    const { $ref: reference, ...beside } = value
    if (typeof reference === 'string' && !names) {
      const isLocal = reference.startsWith('#') && place.file === this.#root
      if (!isLocal) return this.#resolve(reference, (await this.#members(beside, place, names)) as JsonObject, place)
    }
    return this.#members(value, place, names)
  }

  async #members(value: JsonObject, place: Place, names: boolean): Promise<JsonObject> {
    const made: [string, unknown][] = []
    for (const [key, each] of Object.entries(value)) {
      const inner: Place = { ...place, path: [...place.path, key] }
      made.push([key, DATA.has(key) && !names ? each : await this.#walk(each, inner)])
    }
    return Object.fromEntries(made)
  }

  async run(): Promise<JsonObject> {
    const root = (await this.#walk(this.#files.get(this.#root), {
      file: this.#root,
      path: [],
      around: [],
    })) as JsonObject
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift())
      this.#schemas[next.name] = await this.#walk(next.value, next.place)
    if (this.#names.size === 0) return root
    if (this.#prefix === '#/definitions/')
      return { ...root, definitions: { ...(root.definitions as object), ...this.#schemas } }
    const components = isObject(root.components) ? root.components : {}
    return { ...root, components: { ...components, schemas: { ...(components.schemas as object), ...this.#schemas } } }
  }
}

/**
 * A document with what it takes from other files in it. Schemas become components; all else is put in the place of the
 * reference.
 * @param location URL of the document, file: or http(s)
 * @throws DocumentError
 */
export const bundle = async (location: string, data: unknown, read: ReadFile): Promise<JsonObject> => {
  versionOf(data, 'The document')
  return new Bundle(location, data as JsonObject, read).run()
}
