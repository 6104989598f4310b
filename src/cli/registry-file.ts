import { existsSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isMap, parseAllDocuments, stringify, type Document } from 'yaml'
import { formatProblem, idSchema, type Problem, SETTINGS_FILE, urlSchema } from '#config'
import { createFile, replaceFile } from '#foundation/files'
import { readSettings, shipped } from './home.ts'
import { CommandError, exit, type Terminal } from './terminal.ts'

/** A document of a YAML file in the registry. */
export interface DocumentPlace {
  readonly home: string
  /** Relative to the home. */
  readonly file: string
  /** The setting that names the document, such as `tenant`, and its value. */
  readonly key: string
  readonly id: string
}

/** Changes one document of a YAML file and leaves comments and order as they are. @throws CommandError when it is not there */
export const editDocument = async (
  { home, file, key, id }: DocumentPlace,
  change: (document: Document) => void,
): Promise<void> => {
  const path = join(home, file)
  const documents = parseAllDocuments(await readFile(path, 'utf8'))
  const list = Array.isArray(documents) ? documents : []
  const document = list.find(({ contents }) => isMap(contents) && (contents.get(key) as unknown) === id)
  if (document === undefined) throw new CommandError(exit.failed, `${file} holds no ${key} ${id}.`)
  change(document as unknown as Document)
  await replaceFile(path, list.map((each) => each.toString()).join(''))
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
  await mkdir(join(home, folder), { recursive: true, mode: 0o700 })
  if (!(await createFile(join(home, file), text)))
    throw new CommandError(exit.failed, `${file} exists already.`, `Edit it, then run: deputy check`)
  return file
}

/** YAML with a comment above its content. */
export const commented = (comment: string, content: object): string => `# ${comment}\n${stringify(content)}`

const problemsOf = async (home: string): Promise<readonly Problem[]> => {
  // Loaded here: no other command should pay for the policy engine.
  const { readConfiguration } = await import('#daemon/configuration')
  return (await readConfiguration({ home, shipped, generation: 1 })).problems
}

/** Problems that a change has introduced. Lines move, so they are not compared. */
const newAmong = (after: readonly Problem[], before: readonly Problem[]): Set<Problem> => {
  const keyOf = ({ file, message }: Problem): string => `${file}\n${message}`
  const known = before.map(keyOf)
  return new Set(
    after.filter((problem) => {
      const at = known.indexOf(keyOf(problem))
      if (at >= 0) known.splice(at, 1)
      return at < 0
    }),
  )
}

/**
 * Changes the files of a home and ends with a check of the whole folder: shows the problems that the change has introduced,
 * and those from before.
 * @param change makes the change; returns the file and a sentence for people
 * @throws CommandError `configuration` when the change has introduced problems; the file stays as written, to be corrected
 */
export const changeRegistry = async (
  home: string,
  terminal: Terminal,
  change: () => Promise<{ readonly file: string; readonly done: string }>,
): Promise<void> => {
  // Says that there is no home, or that this user may not read it.
  if (!existsSync(join(home, SETTINGS_FILE))) await readSettings(home)
  const before = await problemsOf(home)
  const { file, done } = await change()
  terminal.out(`${done}\n`)
  const after = await problemsOf(home)
  const fresh = newAmong(after, before)
  const earlier = after.filter((problem) => !fresh.has(problem))
  if (earlier.length > 0) terminal.err(`Problems from before this change:\n${earlier.map(formatProblem).join('\n')}\n`)
  if (fresh.size > 0)
    throw new CommandError(
      exit.configuration,
      `Problems from this change:\n${[...fresh].map(formatProblem).join('\n')}`,
      `Correct ${file}, then run: deputy check`,
    )
}
