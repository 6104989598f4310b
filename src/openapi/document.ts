import { parseDocument } from 'yaml'
import { isObject, type JsonObject, objectAt, textAt } from './json.ts'
import { assertSize, boundedCopy, MAX_ALIASES } from './limits.ts'
import { DocumentError } from './problem.ts'
import { cleanTitle } from './words.ts'

/** An OpenAPI document in the one dialect that the converter reads: 3.1, with what 3.2 adds. */
export interface ApiDocument {
  readonly root: JsonObject
}

/** The versions that are read, by the field that names them. */
const VERSION = /^(?:2\.0|3\.[012](?:\.\d+)?)$/
const DIALECT = /^3\.[12](?:\.\d+)?$/

/** @throws DocumentError */
const parseText = (text: string, what: string): unknown => {
  if (/^\s*\{/.test(text.slice(0, 1000)))
    try {
      return JSON.parse(text)
    } catch {
      // A YAML document may begin with a brace too, and its parser says where an error is.
    }
  try {
    const parsed = parseDocument(text, { merge: true, uniqueKeys: true, logLevel: 'error' })
    const [error] = parsed.errors
    if (error?.message.includes('call stack') === true) throw new RangeError(error.message)
    if (error !== undefined)
      throw new DocumentError(
        `${what} is no YAML or JSON: ${error.message.split('\n', 1)[0]}`,
        `Correct the line${error.linePos === undefined ? '' : ` ${error.linePos[0].line}`}.`,
      )
    return parsed.toJS({ maxAliasCount: MAX_ALIASES }) as unknown
  } catch (error) {
    if (error instanceof DocumentError) throw error
    // Aliases that unfold without end, and nesting that the parser cannot follow.
    throw new DocumentError(
      `${what} cannot be read: ${error instanceof RangeError ? 'it is nested too deeply' : (error as Error).message.split('\n', 1)[0]}.`,
      'Write the values out instead of aliases.',
    )
  }
}

/**
 * A text as plain data: JSON or YAML, within the limits on size, depth, parts and aliases.
 * @param what the document in a message, such as its file name
 * @throws DocumentError
 */
export const parseDocumentText = (text: string, what: string): unknown => {
  assertSize(Buffer.byteLength(text), what)
  return boundedCopy(parseText(text, what), what)
}

/** @throws DocumentError */
export const versionOf = (root: unknown, what: string): string => {
  const version = isObject(root) ? (textAt(root, 'openapi') ?? textAt(root, 'swagger')) : undefined
  if (version === undefined)
    throw new DocumentError(`${what} is not an OpenAPI document.`, 'It needs `openapi: 3.1.0`, or `swagger: "2.0"`.')
  if (!VERSION.test(version))
    throw new DocumentError(
      `${what} is of OpenAPI ${version.slice(0, 20)}.`,
      'Deputy reads OpenAPI 2.0, 3.0, 3.1 and 3.2.',
    )
  return version
}

/** @throws DocumentError where a document is in the dialect, and is no document */
const asDocument = (root: unknown, what: string): ApiDocument => {
  if (!isObject(root) || !isObject(root.paths ?? {}))
    throw new DocumentError(`${what} has no paths.`, 'Write `paths:` with the operations below it.', '/paths')
  return { root }
}

/**
 * A document of parsed data, with older versions brought into the dialect. The data is no longer of use afterwards.
 * @throws DocumentError
 */
export const upgradeDocument = async (data: unknown, what: string): Promise<ApiDocument> => {
  const version = versionOf(data, what)
  if (DIALECT.test(version)) return asDocument(data, what)
  const { upgrade } = await import('@scalar/openapi-upgrader')
  try {
    return asDocument(boundedCopy(upgrade(data as Record<string, unknown>, '3.1'), what), what)
  } catch (error) {
    if (error instanceof DocumentError) throw error
    throw new DocumentError(
      `${what} cannot be brought from OpenAPI ${version} to 3.1: ${(error as Error).message}.`,
      'Check it with a validator of OpenAPI documents.',
    )
  }
}

/**
 * A document of a text, JSON or YAML, OpenAPI 2.0 to 3.2.
 * @throws DocumentError
 */
export const readDocument = async (text: string, what = 'The document'): Promise<ApiDocument> =>
  upgradeDocument(parseDocumentText(text, what), what)

/**
 * The document that was accepted: JSON in the dialect. Nothing but its form is looked at, because its digest was.
 * @throws DocumentError
 */
export const readAccepted = (text: string, what: string): ApiDocument => {
  assertSize(Buffer.byteLength(text), what)
  let root: unknown
  try {
    root = JSON.parse(text)
  } catch {
    throw new DocumentError(`${what} is no JSON.`, 'Run `deputy api accept` to write it anew.')
  }
  if (!DIALECT.test(versionOf(root, what)))
    throw new DocumentError(`${what} is not in OpenAPI 3.1.`, 'Run `deputy api accept` to write it anew.')
  return asDocument(root, what)
}

/** The name that a document gives the API, on one line. */
export const titleOf = ({ root }: ApiDocument): string | undefined => {
  const title = cleanTitle(textAt(objectAt(root, 'info'), 'title') ?? '')
  return title === '' ? undefined : title
}
