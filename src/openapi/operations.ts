import { type JsonObject, isObject, listAt, objectAt, pointerOf, textAt } from './json.ts'
import type { ApiDocument } from './document.ts'
import { nameAll } from './names.ts'
import type { References } from './references.ts'

const METHODS = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace', 'query'] as const

/** An operation of a document. */
export interface DocumentOperation {
  /** As people name it: its operationId, else method and path. */
  readonly id: string
  /** Method and path, which tell it from all others. */
  readonly route: string
  readonly method: string
  /** Key in `paths`. */
  readonly path: string
  /** Where it stands. */
  readonly pointer: string
  readonly tags: readonly string[]
  readonly definition: JsonObject
  readonly pathItem: JsonObject
  /** The name of its tool, where the file says none. */
  readonly name: string
}

const TOKEN = /^[A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]{0,39}$/

/** The operations of a path item: those of the fixed methods, and `additionalOperations` of 3.2. */
const methodsOf = (item: JsonObject): { method: string; steps: readonly string[]; definition: JsonObject }[] => [
  ...METHODS.flatMap((method) => {
    const definition = objectAt(item, method)
    return definition === undefined ? [] : [{ method: method.toUpperCase(), steps: [method], definition }]
  }),
  ...Object.entries(objectAt(item, 'additionalOperations') ?? {}).flatMap(([method, definition]) =>
    isObject(definition) && TOKEN.test(method) ? [{ method, steps: ['additionalOperations', method], definition }] : [],
  ),
]

/** Every operation of a document. Webhooks and callbacks are calls of the API to others, and no operations. */
export const operationsOf = ({ root }: ApiDocument, references: References): DocumentOperation[] => {
  const found = Object.entries(objectAt(root, 'paths') ?? {}).flatMap(([path, item]) => {
    const pathItem = path.startsWith('/') ? references.follow(item) : undefined
    if (pathItem === undefined) return []
    return methodsOf(pathItem).map(({ method, steps, definition }) => {
      const route = `${method} ${path}`
      const named = textAt(definition, 'operationId')
      return {
        id: named === undefined || named === '' ? route : named,
        route,
        method,
        path,
        pointer: pointerOf(['paths', path, ...steps]),
        tags: listAt(definition, 'tags').filter((tag) => typeof tag === 'string'),
        definition,
        pathItem,
      }
    })
  })
  const names = nameAll(
    found.map(({ id, route, method, path }) => ({
      wanted: id === route ? `${method.toLowerCase()}_${path}` : id,
      key: route,
    })),
  )
  return found.map((each, at) => ({ ...each, name: names[at]! }))
}
