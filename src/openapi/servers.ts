import { ownValue } from '#foundation/text'
import type { ApiDocument } from './document.ts'
import { isObject, type JsonObject, listAt, objectAt, textAt } from './json.ts'
import type { DocumentOperation } from './operations.ts'
import { OperationError } from './refusal.ts'

/** What the file of the API says of where requests go. */
export interface BaseOptions {
  readonly base_url?: string | undefined
  readonly variables: Readonly<Record<string, string>>
  readonly document: { readonly source?: string | undefined }
}

/** Where the requests of an operation go. */
export interface Base {
  /** Scheme, host and port. */
  readonly origin: string
  /** Without a slash at its end. */
  readonly path: string
}

const asBase = (text: string): Base | undefined => {
  const url = URL.parse(text)
  if (url === null || !['https:', 'http:'].includes(url.protocol)) return undefined
  if (url.username !== '' || url.password !== '' || url.hash !== '' || url.search !== '') return undefined
  return { origin: url.origin, path: url.pathname.replace(/\/+$/, '') }
}

/** The URL of a server with the values of its variables; undefined where it is none, or a variable has no value. */
const urlOf = (server: JsonObject, { variables, document }: BaseOptions): string | undefined => {
  const declared = objectAt(server, 'variables')
  let isWhole = true
  const filled = (textAt(server, 'url') ?? '').replace(/\{([^{}]+)\}/g, (_, name: string) => {
    const value = ownValue(variables, name) ?? textAt(objectAt(declared, name), 'default')
    if (value === undefined) isWhole = false
    return value ?? ''
  })
  if (!isWhole || filled === '') return undefined
  const source = /^https?:/.test(document.source ?? '') ? document.source : undefined
  return URL.parse(filled, source)?.href
}

const serversAt = (part: JsonObject): JsonObject[] => listAt(part, 'servers').filter(isObject)

/** The base of the document's own servers; undefined where it names none that stands by itself. */
export const documentBase = ({ root }: ApiDocument, options: BaseOptions): Base | undefined => {
  for (const server of serversAt(root)) {
    const url = urlOf(server, options)
    const base = url === undefined ? undefined : asBase(url)
    if (base !== undefined) return base
  }
  // Without servers the document stands for the server that it came from (OpenAPI 3.1.1 section 4.8.1).
  const { source } = options.document
  return serversAt(root).length === 0 && source !== undefined && /^https?:/.test(source)
    ? asBase(new URL('/', source).href)
    : undefined
}

/** Where the requests of the operations go that have no server of their own. @throws OperationError */
export const baseOf = (document: ApiDocument, options: BaseOptions): Base => {
  const base = options.base_url === undefined ? documentBase(document, options) : asBase(options.base_url)
  if (base !== undefined) return base
  const names = serversAt(document.root).flatMap((server) => textAt(server, 'url') ?? [])
  throw new OperationError(
    names.length === 0
      ? 'The document names no server.'
      : `No server of the document is a whole URL: ${names.slice(0, 3).join(', ').slice(0, 200)}.`,
    'Write base_url: with the URL that the paths follow, or `variables:` for those in the URL.',
  )
}

/** What the bases of operations are found with. */
export interface Bases {
  readonly base: Base
  /** That of the document, which `base` stands for. */
  readonly documented: Base | undefined
  readonly options: BaseOptions
  /** Origins to which the credential may go. */
  readonly origins: readonly string[]
}

/**
 * Where the requests of an operation go. A server of its own counts where it is of the same origin as the API, or where
 * the downstream sends its credential there.
 * @throws OperationError for a server that points elsewhere
 */
export const baseFor = (
  { definition, pathItem }: Pick<DocumentOperation, 'definition' | 'pathItem'>,
  { base, documented, options, origins }: Bases,
): Base => {
  const own = serversAt(definition)
  const servers = own.length > 0 ? own : serversAt(pathItem)
  if (servers.length === 0) return base
  const candidates = servers.flatMap((server) => {
    const url = urlOf(server, options)
    return (url === undefined ? undefined : asBase(url)) ?? []
  })
  for (const each of candidates) {
    if (each.origin === base.origin) return each
    if (options.base_url !== undefined && (documented === undefined || each.origin === documented.origin)) {
      // The file moves the API elsewhere, with all paths of its server.
      const below =
        documented !== undefined && each.path.startsWith(documented.path) ? documented.path.length : undefined
      return { origin: base.origin, path: below === undefined ? base.path : base.path + each.path.slice(below) }
    }
    if (origins.includes(each.origin)) return each
  }
  throw new OperationError(
    candidates.length === 0
      ? 'Its server is no whole URL.'
      : `Its server is ${candidates[0]!.origin}, and the API is at ${base.origin}.`,
    candidates.length === 0
      ? 'Write the missing values in `variables:`.'
      : `Add ${candidates[0]!.origin} to inject.hosts of the downstream, if its credential may go there.`,
  )
}

/** The base URL that a file of the API may name; undefined where the document names none. */
export const baseUrlOf = (document: ApiDocument, options: BaseOptions): string | undefined => {
  const base = documentBase(document, options)
  return base === undefined ? undefined : base.origin + base.path
}
