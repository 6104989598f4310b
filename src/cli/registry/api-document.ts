/** OpenAPI documents as they come: from a file and those beside it, or from a URL through the guard of the network. */
import { readFile, realpath, stat } from 'node:fs/promises'
import { dirname, isAbsolute, relative, resolve, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { DeputyError } from '#errors'
import type { Egress } from '#foundation/outbound'
import {
  type ApiDocument,
  bundle,
  DocumentError,
  MAX_DOCUMENT_BYTES,
  parseDocumentText,
  upgradeDocument,
  versionOf,
} from '#openapi'
import { CommandError, exit } from '../terminal.ts'

/** A document that was read, and all that can be said of it. */
export interface ReadDocument {
  readonly document: ApiDocument
  /**
   * As it goes into the file of the API: a URL, an absolute path, or a path that begins at the configuration folder.
   */
  readonly source: string
  /** As the document names it. */
  readonly version: string
  /** Where it differs from OpenAPI's own schema; it is read all the same. */
  readonly deviations: readonly string[]
}

const isUrl = (spec: string): boolean => /^https?:\/\//i.test(spec)

/** Bytes of all files of one document, counted together. */
const counted = (): ((bytes: number, what: string) => void) => {
  let total = 0
  return (bytes, what) => {
    total += bytes
    if (total > MAX_DOCUMENT_BYTES)
      throw new DocumentError(
        `${what}: the document has more than ${MAX_DOCUMENT_BYTES} bytes.`,
        'Split the document by tags, or take out the operations that are not used.',
      )
  }
}

/** Reads files below one folder, links resolved. */
const fileReader = (folder: string) => {
  const count = counted()
  return async (location: string): Promise<unknown> => {
    const url = new URL(location)
    if (url.protocol !== 'file:' || url.host !== '')
      throw new DocumentError(
        `A document in a file takes nothing from ${url.protocol}//${url.host}.`,
        'Download the other document, put it beside this one, and refer to it by its path.',
      )
    const path = await realpath(fileURLToPath(url)).catch(() => undefined)
    if (path === undefined) throw new DocumentError(`There is no file ${fileURLToPath(url)}.`, 'Correct the reference.')
    if (!path.startsWith(folder.endsWith(sep) ? folder : folder + sep))
      throw new DocumentError(
        `${path} is outside of ${folder}.`,
        'Copy the file below the folder of the document, or bundle the document with a tool of yours first.',
      )
    const found = await stat(path)
    if (!found.isFile()) throw new DocumentError(`${path} is no file.`, 'Correct the reference.')
    count(found.size, path)
    return parseDocumentText(await readFile(path, 'utf8'), path)
  }
}

/** Reads documents of one origin. The answer is the document itself: a redirect would be another one than was named. */
const urlReader = (origin: string, egress: Egress) => {
  const count = counted()
  return async (location: string): Promise<unknown> => {
    const url = new URL(location)
    if (url.origin !== origin)
      throw new DocumentError(
        `A document of ${origin} takes nothing from ${url.protocol === 'file:' ? 'files' : url.origin}.`,
        'Download all of its files, put them into one folder, and name the file.',
      )
    try {
      const response = await egress(url, {
        headers: { accept: 'application/json, application/yaml, text/yaml, */*;q=0.5' },
        maxBytes: MAX_DOCUMENT_BYTES,
      })
      if (response.status !== 200) {
        const to = response.headers.get('location')
        throw new DocumentError(
          `${url.href} answered with HTTP status ${response.status}${to === null ? '' : ` and leads to ${to.slice(0, 300)}`}.`,
          to === null ? 'Correct the URL.' : 'Name the URL that the document is at.',
        )
      }
      const text = await response.text()
      count(Buffer.byteLength(text), url.href)
      return parseDocumentText(text, url.href)
    } catch (error) {
      if (error instanceof DocumentError) throw error
      const problem = error instanceof DeputyError ? error.message : `${(error as Error).message}.`
      throw new DocumentError(`${url.href} cannot be read: ${problem}`, 'Check the URL, and `network` in deputy.yaml.')
    }
  }
}

/** No more deviations are shown. */
const MAX_SHOWN = 5

/**
 * Where data differs from OpenAPI's own schema. Many documents in use do, and only people can say whether it matters.
 */
const deviationsOf = async (data: unknown): Promise<string[]> => {
  const { Validator } = await import('@seriousme/openapi-schema-validator')
  const { valid, errors } = await new Validator().validate(structuredClone(data) as Record<string, unknown>)
  if (valid || errors === undefined) return []
  if (typeof errors === 'string') return [errors.slice(0, 300)]
  const texts = errors.map(({ instancePath, message }) => `${instancePath || '/'}: ${message ?? 'it differs'}`)
  return [...new Set(texts)]
}

/** Deviations as lines for people. */
export const deviationText = (deviations: readonly string[]): string =>
  deviations.length === 0
    ? ''
    : [
        `The document differs from the OpenAPI specification in ${deviations.length} place${deviations.length === 1 ? '' : 's'}; it is read all the same:`,
        ...deviations.slice(0, MAX_SHOWN).map((each) => `  ${each}`),
        ...(deviations.length > MAX_SHOWN ? [`  and ${deviations.length - MAX_SHOWN} more`] : []),
      ].join('\n')

/** A document error as the end of a command. */
export const asCommandError = (error: unknown): unknown =>
  error instanceof DocumentError
    ? new CommandError(
        exit.failed,
        error.pointer === undefined || error.message.includes(error.pointer)
          ? error.message
          : `${error.message} (${error.pointer})`,
        error.fix,
      )
    : error

/**
 * Reads a document with all files that it takes from, as one document in the dialect of the converter.
 * @param spec a path or a URL
 * @param options `workingFolder` is where a relative path begins, and `home` the configuration folder
 * @throws CommandError
 */
export const readSpec = async (
  spec: string,
  options: { readonly workingFolder: string; readonly home: string; readonly egress: Egress },
): Promise<ReadDocument> => {
  const { workingFolder, home, egress } = options
  try {
    const path = isUrl(spec) ? undefined : await realpath(resolve(workingFolder, spec)).catch(() => undefined)
    if (!isUrl(spec) && path === undefined)
      throw new CommandError(exit.usage, `There is no file ${resolve(workingFolder, spec)}.`)
    const location = path === undefined ? new URL(spec).href : pathToFileURL(path).href
    const read = path === undefined ? urlReader(new URL(location).origin, egress) : fileReader(dirname(path))
    const data = await read(location)
    const whole = await bundle(location, data, read)
    // Before the upgrade, which changes the data.
    const deviations = await deviationsOf(whole)
    return {
      document: await upgradeDocument(whole, spec),
      source: path === undefined ? location : isAbsolute(spec) ? spec : relative(home, resolve(workingFolder, spec)),
      version: versionOf(data, spec),
      deviations,
    }
  } catch (error) {
    throw asCommandError(error)
  }
}
