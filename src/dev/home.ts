/** The folder of a world: a temporary one, or one that the author names and keeps. */
import { constants } from 'node:fs'
import { access, mkdtemp, readdir, realpath, rm } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { SETTINGS_FILE } from '#config'
import { makeFolders } from '#foundation/files'
import { DevError } from './error.ts'
import { readState, type State } from './state.ts'
import { adminSocketOf, FOLDER_PREFIX, isListening } from './token.ts'

export interface WorldFolder {
  readonly home: string
  /** Of the last start in a folder that is kept. */
  readonly state: State | undefined
  readonly isTemporary: boolean
  /** Removes a temporary folder. */
  remove(): Promise<void>
}

const isWithin = (folder: string, path: string): boolean => {
  const way = relative(folder, path)
  return way === '' || (!way.startsWith('..') && !way.startsWith('/'))
}

const openKept = async (named: string, forbidden: readonly string[]): Promise<WorldFolder> => {
  const failed = (error: NodeJS.ErrnoException): never => {
    throw new DevError(
      `The folder ${named} cannot be used (${error.code ?? error.message}).`,
      'Name a folder in which you may write, or leave --home out for a temporary one.',
    )
  }
  if (forbidden.some((folder) => isWithin(folder, named)))
    throw new DevError(`${named} is a place of a real Deputy.`, 'Name another folder: deputy dev --home ./deputy-dev')
  await makeFolders(named).catch(failed)
  const home = await realpath(named).catch(failed)
  await access(home, constants.W_OK | constants.X_OK).catch(failed)
  if (forbidden.some((folder) => isWithin(folder, home)))
    throw new DevError(`${named} is a place of a real Deputy.`, 'Name another folder: deputy dev --home ./deputy-dev')
  const state = await readState(home)
  if (state === undefined) {
    const names = await readdir(home)
    if (names.includes(SETTINGS_FILE))
      throw new DevError(
        `${home} is the folder of a Deputy that deputy dev has not made.`,
        'Name another folder, or run it with: deputy serve --home FOLDER',
      )
    if (names.length > 0) throw new DevError(`${home} is not empty.`, 'Name a new folder, or an empty one.')
  }
  if (await isListening(adminSocketOf(home)))
    throw new DevError(
      `A development world runs in ${home} already.`,
      `End it with Ctrl-C where it runs, or use it: deputy dev token --home ${home}`,
    )
  return { home, state, isTemporary: false, remove: () => Promise.resolve() }
}

/**
 * @param named the folder of `--home`; undefined: a new one in the temporary folder
 * @param places.forbidden folders in which no world is made
 * @throws DevError
 */
export const openFolder = async (
  named: string | undefined,
  { temporary, forbidden }: { temporary: string; forbidden: readonly string[] },
): Promise<WorldFolder> => {
  if (named !== undefined) return openKept(named, forbidden)
  const home = await mkdtemp(join(temporary, FOLDER_PREFIX))
  return {
    home,
    state: undefined,
    isTemporary: true,
    remove: () => rm(home, { recursive: true, force: true }),
  }
}
