import { existsSync } from 'node:fs'
import { lstat, mkdir, readdir, rename, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Settings } from '#config'
import { refuse } from '#errors'
import { syncFolder } from '#foundation/files'
import { type Owner, ownerOf } from './as-owner.ts'
import { isForeign, kekFiles, SET_ASIDE, UNFINISHED_RESTORE, type Layout } from './layout.ts'

/** A folder into which something is restored, and what is in its way there. */
export interface Target {
  readonly folder: string
  readonly inTheWay: readonly string[]
  /** Whose folder it is, where root restores it. */
  readonly owner: Owner | undefined
  /** Of folders that are made below it: a group that may read it, as in /etc/deputy, may read them. */
  readonly folderMode: number
}

const namesIn = (folder: string): Promise<string[]> =>
  readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })

const GROUP_READS = 0o050
const folderModeOf = async (folder: string): Promise<number> => {
  const mode = await stat(folder).then(
    (found) => found.mode,
    () => 0,
  )
  return (mode & GROUP_READS) === GROUP_READS ? 0o750 : 0o700
}

/** Of the state: the data keys, the key-encryption key and the lock stay where they are. */
export const stateTarget = async ({ home, state, keys, database }: Layout, settings: Settings): Promise<Target> => {
  const stays = new Set([keys, `${database}.hold`, `${database}.hold-journal`, ...kekFiles(home, settings)])
  const inTheWay = (await namesIn(state)).filter(
    (name) => !stays.has(join(state, name)) && !name.startsWith(SET_ASIDE) && !name.startsWith('deputy-backup-'),
  )
  return { folder: state, inTheWay, owner: await ownerOf(state), folderMode: 0o700 }
}

/** Of the configuration. State, keys and sockets in the folder are none of it. */
export const configurationTarget = async ({ home, state, keys }: Layout, settings: Settings): Promise<Target> => {
  const { socket, admin } = settings.listen
  const stays = [
    state,
    keys,
    dirname(resolve(home, socket)),
    dirname(resolve(home, admin)),
    ...kekFiles(home, settings),
  ]
  const isStaying = (path: string): boolean => stays.some((each) => each === path || each.startsWith(`${path}/`))
  const inTheWay = (await namesIn(home)).filter((name) => !isForeign(name) && !isStaying(join(home, name)))
  return { folder: home, inTheWay, owner: await ownerOf(home), folderMode: await folderModeOf(home) }
}

/** @throws DeputyError `restore_refused` where a folder is not empty, unless what is there is to be moved aside */
export const assertFree = ({ folder, inTheWay }: Target, replaces: boolean): void => {
  if (inTheWay.length === 0 || replaces) return
  throw refuse('restore_refused', {
    problem: inTheWay.includes(UNFINISHED_RESTORE)
      ? `${folder} has a restore that was not finished`
      : `${folder} is not empty (${inTheWay.slice(0, 3).join(', ')}${inTheWay.length > 3 ? ', …' : ''})`,
    fix: `Name an empty folder with --home, or add --replace: it moves what is in ${basename(folder)} into a folder ${SET_ASIDE}… there.`,
  })
}

/** Moves what is in the way into a folder of its own. @returns its path; undefined where nothing was in the way */
export const setAside = async ({ folder, inTheWay }: Target, now: number): Promise<string | undefined> => {
  const names = inTheWay.filter((name) => name !== UNFINISHED_RESTORE)
  if (names.length === 0) return undefined
  const stamp = new Date(now).toISOString().replaceAll(/[-:]|\.\d+/g, '')
  let aside = join(folder, `${SET_ASIDE}${stamp}`)
  for (let count = 2; existsSync(aside); count += 1) aside = join(folder, `${SET_ASIDE}${stamp}-${count}`)
  await mkdir(aside, { mode: 0o700 })
  for (const name of names) await rename(join(folder, name), join(aside, name))
  await syncFolder(aside)
  await syncFolder(folder)
  return aside
}

/** Moves what was made ready into its place; `last` comes last. */
export const moveIn = async (staging: string, folder: string, last: string): Promise<void> => {
  const names = (await namesIn(staging)).filter((name) => name !== last)
  if (existsSync(join(staging, last))) names.push(last)
  for (const name of names) {
    const place = join(folder, name)
    // A folder that stays, such as one that holds the state as well, gets what belongs into it.
    const isThere = await lstat(place).then(
      (found) => found.isDirectory(),
      () => false,
    )
    if (isThere && (await lstat(join(staging, name))).isDirectory()) await moveIn(join(staging, name), place, '')
    else await rename(join(staging, name), place)
  }
  await syncFolder(folder)
}
