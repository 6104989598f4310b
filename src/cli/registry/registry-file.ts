/** Files of the registry as commands write them: new ones, and single documents of those that exist. */
import { readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isMap, parseAllDocuments, stringify, type Document } from 'yaml'
import { idSchema, loadLocations, urlSchema } from '#config'
import { createFile, replaceFile } from '#foundation/files'
import { nearNames } from '#foundation/text'
import { makeFolder, ownAsBefore, ownAsFolder } from './file-owner.ts'
import { CommandError, exit, type Terminal } from '../terminal.ts'

/** A document of a YAML file in the registry. */
export interface DocumentPlace {
  readonly home: string
  /** Relative to the home. */
  readonly file: string
  /** The setting that names the document, such as `tenant`, and its value. */
  readonly key: string
  readonly id: string
}

/** Takes a change back. */
export type Undo = () => Promise<void>

/** The documents of a YAML file, and the one that is meant. @throws CommandError when it is not there */
const documentsOf = (text: string, { file, key, id }: DocumentPlace): { list: Document[]; document: Document } => {
  const documents = parseAllDocuments(text)
  const list = (Array.isArray(documents) ? documents : []) as unknown as Document[]
  const document = list.find(({ contents }) => isMap(contents) && (contents.get(key) as unknown) === id)
  if (document === undefined) throw new CommandError(exit.failed, `${file} holds no ${key} ${id}.`)
  return { list, document }
}

/** One document of a YAML file. @throws CommandError when it is not there */
export const readDocument = async (place: DocumentPlace): Promise<Document> =>
  documentsOf(await readFile(join(place.home, place.file), 'utf8'), place).document

/**
 * Changes one document of a YAML file and leaves comments and order as they are.
 * @throws CommandError when it is not there
 */
export const editDocument = async (place: DocumentPlace, change: (document: Document) => void): Promise<Undo> => {
  const path = join(place.home, place.file)
  const [before, owner] = [await readFile(path, 'utf8'), await stat(path)]
  const replace = async (text: string): Promise<void> => {
    await replaceFile(path, text)
    await ownAsBefore(path, owner)
  }
  const { list, document } = documentsOf(before, place)
  change(document)
  await replace(list.map((each) => each.toString()).join(''))
  return () => replace(before)
}

/** @throws CommandError unless it may stand in the name of a file. @param what for example `tenant` */
export const assertId = (what: string, id: string): void => {
  if (!idSchema.safeParse(id).success)
    throw new CommandError(
      exit.usage,
      `${JSON.stringify(id)} cannot be the id of a ${what}: use 1 to 63 of a-z, 0-9, ".", "_" and "-", starting with a letter or digit.`,
    )
}

/** @throws CommandError unless it is an http or https URL as the files take it */
export const assertUrl = (what: string, url: string): void => {
  const { error } = urlSchema.safeParse(url)
  if (error !== undefined)
    throw new CommandError(exit.usage, `${url} cannot be the URL of ${what}: ${error.issues[0]!.message}.`)
}

/** A kind of file: its folder, and the setting that holds the id. */
export interface RegistryKind {
  readonly folder: 'tenants' | 'servers' | 'downstreams'
  readonly key: 'tenant' | 'server' | 'downstream'
}

/**
 * Refuses an id that a file of this environment defines, and names ids that a reader could confuse with the new one.
 * @throws CommandError
 */
export const assertNewId = async (
  terminal: Terminal,
  { home, environment, id }: { readonly home: string; readonly environment: string; readonly id: string },
  { folder, key }: RegistryKind,
): Promise<void> => {
  assertId(key, id)
  const known = await loadLocations(home, folder, key, environment)
  const file = known.get(id)
  if (file !== undefined)
    throw new CommandError(exit.failed, `${file} defines the ${key} ${id} already.`, `deputy ${key} show ${id}`)
  const near = nearNames(id, known.keys())
  if (near.length > 0) terminal.err(`A similar ${key} exists: ${near.join(', ')}.\n`)
}

/**
 * Writes the file of something new; an existing one is not changed.
 * @param options.id judged before a path is made of it
 * @returns the file, relative to the home
 */
export const writeNew = async (options: {
  readonly home: string
  readonly folder: string
  readonly what: string
  readonly id: string
  readonly text: string
}): Promise<string> => {
  const { home, folder, what, id, text } = options
  assertId(what, id)
  const file = `${folder}/${id}.yaml`
  await makeFolder(join(home, folder))
  if (!(await createFile(join(home, file), text)))
    throw new CommandError(exit.failed, `${file} exists already.`, `Edit it, then run: deputy check`)
  await ownAsFolder(join(home, file))
  return file
}

/** Removes a file that a command has written. */
export const removing =
  (home: string, file: string): Undo =>
  () =>
    rm(join(home, file))

/** YAML with a comment above its content. */
export const commented = (comment: string, content: object): string => `# ${comment}\n${stringify(content)}`
