/** Values as text by the styles of OpenAPI (https://spec.openapis.org/oas/v3.2.0.html#style-values, RFC 6570). Pure. */
import { isObject } from './json.ts'
import type { Style } from './tool.ts'

/** How one value becomes text. */
export interface Expansion {
  readonly name: string
  readonly style: Style
  readonly explode: boolean
  /** Escapes one name or value for its place. */
  readonly escape: (text: string) => string
}

/** A value inside of a list or an object that is itself one has no form in any style: it is sent as JSON. */
export const primitiveText = (value: unknown): string =>
  typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value)

/** Members of an object that have a value. */
const membersOf = (value: Readonly<Record<string, unknown>>): [string, unknown][] =>
  Object.entries(value).filter(([, each]) => each !== undefined && each !== null)

const elementsOf = (value: readonly unknown[]): unknown[] => value.filter((each) => each !== undefined && each !== null)

/** Characters that stand between the values of one parameter. */
const SEPARATORS: Readonly<Partial<Record<Style, string>>> = { spaceDelimited: '%20', pipeDelimited: '%7C' }

/** `[name, value]` pairs of a style that has names. */
const pairsOf = ({ name, style, explode, escape }: Expansion, value: unknown): [string, string][] => {
  const own = escape(name)
  const separator = SEPARATORS[style] ?? ','
  if (Array.isArray(value)) {
    const texts = elementsOf(value).map((each) => escape(primitiveText(each)))
    if (texts.length === 0) return []
    return explode ? texts.map((text) => [own, text]) : [[own, texts.join(separator)]]
  }
  if (isObject(value)) {
    const members = membersOf(value).map(([key, each]): [string, string] => [escape(key), escape(primitiveText(each))])
    if (members.length === 0) return []
    return explode ? members : [[own, members.flat().join(separator)]]
  }
  return [[own, escape(primitiveText(value))]]
}

/** `color[R]=100`. Deeper members go on in brackets, and lists repeat the name: what servers with this style read. */
const deepPairs = (name: string, value: unknown, escape: Expansion['escape']): [string, string][] => {
  if (Array.isArray(value)) return elementsOf(value).flatMap((each) => deepPairs(name, each, escape))
  if (isObject(value)) return membersOf(value).flatMap(([key, each]) => deepPairs(`${name}[${key}]`, each, escape))
  return [[escape(name), escape(String(value))]]
}

/** A value of a query, cookie or form body as names and values, both escaped. */
export const namedPairs = (expansion: Expansion, value: unknown): [string, string][] =>
  expansion.style === 'deepObject' && typeof value === 'object' && value !== null
    ? deepPairs(expansion.name, value, expansion.escape)
    : pairsOf(expansion, value)

const joined = (value: unknown, explode: boolean, escape: Expansion['escape'], separator: string): string => {
  if (Array.isArray(value))
    return elementsOf(value)
      .map((each) => escape(primitiveText(each)))
      .join(separator)
  if (!isObject(value)) return escape(primitiveText(value))
  return membersOf(value)
    .map(([key, each]) => `${escape(key)}${explode ? '=' : ','}${escape(primitiveText(each))}`)
    .join(separator)
}

/** A value of a path or header. */
export const inlineText = (expansion: Expansion, value: unknown): string => {
  const { style, explode, escape } = expansion
  if (style === 'matrix') {
    const pairs = pairsOf(expansion, value)
    return pairs.map(([name, text]) => (text === '' ? `;${name}` : `;${name}=${text}`)).join('')
  }
  if (style === 'label') return `.${joined(value, explode, escape, explode ? '.' : ',')}`
  return joined(value, explode, escape, ',')
}
