/** Writes a configuration folder: all of its files, or nothing. */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, rename, rm, rmdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { SETTINGS_FILE } from '#config'
import { createFile, makeFolders, syncFolder } from '#foundation/files'
import { FOLDERS, type NewFile } from './skeleton.ts'
import { CommandError, exit } from '../terminal.ts'

/** A folder that was written. */
export interface NewHome {
  /** The files, in the order of writing. */
  readonly created: readonly string[]
  /** Removes all that was written. */
  remove(): Promise<void>
}

/** errno(3) of a parent folder that this user may not write. */
const REFUSED: readonly string[] = ['EACCES', 'EPERM', 'EROFS']

const taken = (home: string): CommandError =>
  new CommandError(exit.failed, `${home} is a configuration folder already.`, `deputy check --home ${home}`)

/** @throws CommandError where there is a configuration already */
export const assertNewHome = async (home: string): Promise<void> => {
  if (existsSync(join(home, SETTINGS_FILE))) throw taken(home)
}

const makeFolder = async (path: string): Promise<string[]> => {
  const first = await makeFolders(path)
  await chmod(path, 0o700)
  return first === undefined ? [] : [path]
}

/** Files and folders that were made, which can be removed in the opposite order. */
class Made {
  readonly #paths: (() => Promise<void>)[] = []

  folder(path: string): void {
    // One in which other files have appeared stays.
    this.#paths.push(() => rmdir(path).catch(() => undefined))
  }

  file(path: string): void {
    this.#paths.push(() => rm(path, { force: true }))
  }

  async remove(): Promise<void> {
    for (const each of this.#paths.toReversed()) await each()
  }
}

/** @returns the files that did not exist. @throws CommandError where deputy.yaml exists: its creation claims the folder */
const fill = async (
  { folder, home, files, signal }: { folder: string; home: string; files: readonly NewFile[]; signal: AbortSignal },
  made: Made,
): Promise<string[]> => {
  const created: string[] = []
  for (const { path, text } of files) {
    signal.throwIfAborted()
    if (path.includes('/')) for (const each of await makeFolder(dirname(join(folder, path)))) made.folder(each)
    if (await createFile(join(folder, path), text)) {
      made.file(join(folder, path))
      created.push(path)
    } else if (path === SETTINGS_FILE) throw taken(home)
    if (path === SETTINGS_FILE)
      for (const each of FOLDERS) for (const one of await makeFolder(join(folder, each))) made.folder(one)
  }
  return created
}

/** In a folder that exists: what is in it stays as it is. */
const fillExisting = async (home: string, files: readonly NewFile[], signal: AbortSignal): Promise<NewHome> => {
  const made = new Made()
  try {
    const created = await fill({ folder: home, home, files, signal }, made)
    return { created, remove: () => made.remove() }
  } catch (error) {
    await made.remove()
    throw error
  }
}

/** Makes the folder that a path is in. @returns what removes it again, as far as it is empty then */
const makeParent = async (path: string): Promise<() => Promise<void>> => {
  const parent = dirname(path)
  const first = await makeFolders(parent)
  return async () => {
    if (first === undefined) return
    for (let each = parent; each.startsWith(first); each = dirname(each)) await rmdir(each).catch(() => undefined)
  }
}

/** Beside the place, and then moved to it: it appears whole. */
const fillNew = async (home: string, files: readonly NewFile[], signal: AbortSignal): Promise<NewHome> => {
  const removeParent = await makeParent(home)
  const folder = join(dirname(home), `.${basename(home)}-${randomUUID()}`)
  const remove = async (path: string): Promise<void> => {
    await rm(path, { recursive: true, force: true })
    await removeParent()
  }
  try {
    await mkdir(folder)
    await chmod(folder, 0o700)
    const created = await fill({ folder, home, files, signal }, new Made())
    signal.throwIfAborted()
    await rename(folder, home)
    await syncFolder(dirname(home))
    return { created, remove: () => remove(home) }
  } catch (error) {
    await remove(folder)
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOTEMPTY' || code === 'EEXIST') throw taken(home)
    if (code !== undefined && REFUSED.includes(code))
      throw new CommandError(exit.failed, `This user may not create ${home}.`, 'Name another folder, or use sudo.')
    throw error
  }
}

/**
 * Writes the files of a new configuration folder, mode 0600 in folders of 0700.
 * @param signal ends it, as Ctrl-C does: nothing is left behind
 * @throws CommandError where there is a configuration already; the reason of the signal
 */
export const writeHome = async (home: string, files: readonly NewFile[], signal: AbortSignal): Promise<NewHome> => {
  const exists = await stat(home).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )
  return exists ? fillExisting(home, files, signal) : fillNew(home, files, signal)
}
