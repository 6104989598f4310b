import { chmod, readdir, readFile, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { createFile, makeFolders, replaceFile, syncFolder } from '#foundation/files'
import { asOwner } from './as-owner.ts'
import { headsPath, OWN_KEY_FILE, UNFINISHED_RESTORE, type Layout } from './layout.ts'
import { moveIn, setAside, type Target } from './target.ts'

export interface ToPutInPlace {
  readonly layout: Layout
  readonly state: Target
  /** Undefined where the configuration stays. */
  readonly configuration: Target | undefined
}

const targetsOf = ({ state, configuration }: ToPutInPlace): Target[] =>
  configuration === undefined ? [state] : [state, configuration]

/** Removes what was made ready, here or by a restore that was killed. */
export const removeUnfinished = async (planned: ToPutInPlace): Promise<void> => {
  for (const { folder, owner } of targetsOf(planned))
    await asOwner(owner, () => rm(join(folder, UNFINISHED_RESTORE), { recursive: true, force: true }))
}

/** Makes the folders that are missing. */
export const makeTargets = async (planned: ToPutInPlace): Promise<void> => {
  for (const { folder, owner } of targetsOf(planned)) await asOwner(owner, () => makeFolders(folder))
  const { layout, state, configuration } = planned
  if (configuration !== undefined) await asOwner(state.owner, () => chmod(layout.state, 0o700))
}

/** Keys are written, not moved: their folder may be on another file system. Deputy's own is last: without it they count as none. */
const putKeys = async (staged: string, { keys }: Layout): Promise<void> => {
  const names = await readdir(staged, { withFileTypes: true }).catch(() => [])
  if (names.length === 0) return
  await makeFolders(keys)
  await chmod(keys, 0o700)
  const files = names.filter((entry) => entry.isFile()).map(({ name }) => name)
  const ordered = [...files.filter((name) => name !== OWN_KEY_FILE), ...files.filter((name) => name === OWN_KEY_FILE)]
  for (const name of ordered) await replaceFile(join(keys, name), await readFile(join(staged, name), 'utf8'))
  const heads = headsPath(keys)
  const text = await readFile(headsPath(staged)).catch(() => undefined)
  if (text !== undefined) {
    await makeFolders(dirname(heads))
    // Those that are there are younger than any copy of them: what they miss in the log must be told.
    await createFile(heads, text)
  }
}

/** Everything that is ready goes to its place: a daemon does not start before the last step. @returns the folders with what was there */
export const putInPlace = async (planned: ToPutInPlace, now: number): Promise<string[]> => {
  const { layout, state, configuration } = planned
  const aside: string[] = []
  for (const target of targetsOf(planned)) {
    const moved = await asOwner(target.owner, () => setAside(target, now))
    if (moved !== undefined) aside.push(moved)
  }
  const staging = join(state.folder, UNFINISHED_RESTORE)
  await asOwner(state.owner, async () => {
    const keys = join(staging, 'keys')
    await putKeys(keys, layout)
    await rm(keys, { recursive: true, force: true })
    await moveIn(staging, state.folder, basename(layout.database))
  })
  if (configuration !== undefined)
    await asOwner(configuration.owner, async () => {
      await moveIn(join(configuration.folder, UNFINISHED_RESTORE), configuration.folder, 'deputy.yaml')
      await rm(join(configuration.folder, UNFINISHED_RESTORE), { recursive: true, force: true })
    })
  await asOwner(state.owner, async () => {
    await rm(staging, { recursive: true, force: true })
    await syncFolder(state.folder)
  })
  return aside
}
