import { isObject, type JsonObject, listAt, objectAt, textAt } from './json.ts'
import type { DocumentOperation } from './operations.ts'
import type { References } from './references.ts'
import { OperationError } from './refusal.ts'
import type { Parameter, Place, Style } from './tool.ts'
import { hasInvisible } from './words.ts'

/** A parameter of an operation as the document has it. */
export interface DocumentParameter extends Omit<Parameter, 'value'> {
  readonly schema: unknown
  readonly description: string | undefined
  /** The value that the path of the document has for it (`/responses?beta=true`). */
  readonly fixed?: string
}

/** A token of RFC 9110 section 5.6.2. */
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$/

/**
 * Headers that a caller never sets: those of the message itself and of its way (RFC 9110 section 7.6, RFC 7239), those
 * that hold credentials, and Deputy's own. OpenAPI leaves Accept, Content-Type and Authorization to other parts of the
 * document.
 */
const NOT_A_CALLERS =
  /^(accept|accept-encoding|authorization|connection|content-encoding|content-length|content-type|cookie|cookie2|date|expect|forwarded|host|keep-alive|max-forwards|origin|range|referer|set-cookie|te|trailer|transfer-encoding|upgrade|via|x-real-ip|x-http-method(-override)?|x-method-override|x-original-url|x-rewrite-url|(deputy|proxy|sec|x-forwarded)-.*)$/i

/** A header as gateways hand it to programs (RFC 3875 section 4.1.18): they take `_` for `-`. */
export const headerKey = (name: string): string => name.toLowerCase().replaceAll('_', '-')

/** Whether a header can be an argument of a tool. */
export const isCallersHeader = (name: string): boolean => HEADER_NAME.test(name) && !NOT_A_CALLERS.test(headerKey(name))

const PLACES: ReadonlySet<string> = new Set<Place>(['path', 'query', 'header', 'cookie', 'querystring'])

const DEFAULT_STYLES: Readonly<Record<Place, Style>> = {
  path: 'simple',
  query: 'form',
  querystring: 'form',
  header: 'simple',
  cookie: 'form',
}

/** https://spec.openapis.org/oas/v3.2.0.html#style-values */
const STYLES: Readonly<Record<Place, readonly string[]>> = {
  path: ['matrix', 'label', 'simple'],
  query: ['form', 'spaceDelimited', 'pipeDelimited', 'deepObject'],
  querystring: [],
  header: ['simple'],
  cookie: ['form', 'cookie'],
}

const parse = (part: JsonObject, references: References): DocumentParameter | undefined => {
  const [name, place] = [textAt(part, 'name'), textAt(part, 'in')]
  if (name === undefined || place === undefined || !PLACES.has(place)) return undefined
  const where = place as Place
  const [mediaType, media] = Object.entries(objectAt(part, 'content') ?? {})[0] ?? []
  const named = textAt(part, 'style')
  const style = named !== undefined && STYLES[where].includes(named) ? (named as Style) : DEFAULT_STYLES[where]
  const content = references.follow(media)
  return {
    name,
    in: where,
    required: where === 'path' || part.required === true,
    style,
    explode: typeof part.explode === 'boolean' ? part.explode : style === 'form' || style === 'cookie',
    allowReserved: part.allowReserved === true,
    ...(mediaType === undefined ? {} : { mediaType: mediaType.toLowerCase() }),
    schema: mediaType === undefined ? part.schema : content?.schema,
    description: textAt(part, 'description'),
  }
}

const keyOf = ({ in: place, name }: { readonly in: string; readonly name: string }): string =>
  `${place}:${place === 'header' ? name.toLowerCase() : name}`

/** What is in the query string of a path's template: it always goes along. */
const fixedOf = (path: string): DocumentParameter[] => {
  const at = path.indexOf('?')
  if (at < 0) return []
  return [...new URLSearchParams(path.slice(at + 1).split('#', 1)[0])].map(([name, fixed]) => ({
    name,
    in: 'query',
    required: true,
    style: 'form',
    explode: true,
    allowReserved: false,
    schema: { type: 'string' },
    description: undefined,
    fixed,
  }))
}

/** The path of an operation without query string and fragment. */
export const templateOf = (path: string): string => path.split(/[?#]/, 1)[0]!

/** The names in braces of a path's template. */
export const namesInTemplate = (template: string): string[] =>
  [...template.matchAll(/\{([^{}]+)\}/g)].map(([, name]) => name!)

/**
 * The parameters of an operation: its own come before those of its path. Headers that are not the caller's are left
 * out.
 * @throws OperationError
 */
export const parametersOf = (operation: DocumentOperation, references: References): DocumentParameter[] => {
  const { definition, pathItem, path } = operation
  const found = new Map<string, DocumentParameter>()
  for (const list of [listAt(pathItem, 'parameters'), listAt(definition, 'parameters')])
    for (const each of list) {
      const part = references.follow(each)
      const parameter = isObject(part) ? parse(part, references) : undefined
      if (parameter === undefined)
        throw new OperationError(
          'It has a parameter without a name or a place.',
          'Correct the parameter in the document.',
        )
      found.set(keyOf(parameter), parameter)
    }
  for (const fixed of fixedOf(path)) found.set(keyOf(fixed), fixed)
  const all = [...found.values()].filter((each) => each.in !== 'header' || isCallersHeader(each.name))
  const names = new Set(namesInTemplate(templateOf(path)))
  const missing = [...names].find((name) => !all.some((each) => each.in === 'path' && each.name === name))
  if (missing !== undefined)
    throw new OperationError(
      `Its path has {${missing}}, and no parameter of that name is described.`,
      'Add the parameter with `in: path` to the document.',
    )
  if (all.some(({ name }) => hasInvisible(name)))
    throw new OperationError('The name of a parameter has characters that a reader does not see.', 'Correct the name.')
  return all.filter((each) => each.in !== 'path' || names.has(each.name))
}
