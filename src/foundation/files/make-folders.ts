import { mkdirSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true

/**
 * As mkdir -p. `mkdir` of Node with `recursive` never ends below /proc: a folder is there, and a new one in it is `ENOENT`.
 * @param mode of the folders that are made
 * @returns the first of them; undefined where all were there
 * @throws errno(3) errors: `EEXIST` where the path is a file, `ENOENT` where the file system makes no folders
 */
export const makeFoldersSync = (path: string, mode = 0o700): string | undefined => {
  const folder = resolve(path)
  if (isFolder(folder)) return undefined
  let first: string | undefined
  if (dirname(folder) !== folder) first = makeFoldersSync(dirname(folder), mode)
  try {
    mkdirSync(folder, { mode })
  } catch (error) {
    // Another process has made it meanwhile.
    if ((error as NodeJS.ErrnoException).code === 'EEXIST' && isFolder(folder)) return first
    throw error
  }
  return first ?? folder
}

/** `makeFoldersSync`, which rejects. */
export const makeFolders = async (path: string, mode?: number): Promise<string | undefined> =>
  Promise.resolve(makeFoldersSync(path, mode))
