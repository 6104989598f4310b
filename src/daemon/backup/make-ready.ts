import { dirname, join } from 'node:path'
import type { Entry, OpenBackup, Source } from '#foundation/backup'
import { makeFolders, syncFolder } from '#foundation/files'
import { asOwner } from './as-owner.ts'
import { DATABASE_ENTRY, writeTo } from './inspect.ts'
import type { LaterLog } from './later-log.ts'
import { UNFINISHED_RESTORE } from './layout.ts'
import type { KeysToRestore } from './restore-keys.ts'
import { RESTORED_NOTE, type RestoredNote } from './restored-note.ts'
import type { Target } from './target.ts'

interface Place {
  readonly path: string
  readonly owner: Target['owner']
  readonly folderMode?: number
}

const write = ({ path, owner, folderMode }: Place, content: Source['content'], mode = 0o600): Promise<void> =>
  asOwner(owner, async () => {
    await makeFolders(dirname(path), folderMode)
    await writeTo(path, content, mode)
    await syncFolder(dirname(path))
  })

export interface ToMakeReady {
  readonly state: Target
  readonly configuration: Target | undefined
  readonly log: LaterLog | undefined
  readonly keys: KeysToRestore | undefined
}

/** Where a file of a backup is made ready; undefined for one that is not restored. */
const placeOf = ({ state, configuration, log, keys }: ToMakeReady, { path }: Entry): Place | undefined => {
  const [root, ...rest] = path.split('/')
  const inState = { path: join(state.folder, UNFINISHED_RESTORE, path), owner: state.owner }
  if (path === DATABASE_ENTRY) return { ...inState, path: join(state.folder, UNFINISHED_RESTORE, 'deputy.db') }
  if (root === 'audit') return log === undefined ? inState : undefined
  // The heads go with the keys, the keys themselves were chosen before.
  if (root === 'keys') return keys !== undefined && rest[0] === 'audit-heads' ? inState : undefined
  return configuration === undefined || root !== 'configuration'
    ? undefined
    : { ...configuration, path: join(configuration.folder, UNFINISHED_RESTORE, ...rest) }
}

/** Writes what comes back into folders of their own, in those where it belongs. */
export const makeReady = async (backup: OpenBackup, parts: ToMakeReady, note: RestoredNote): Promise<void> => {
  const { state, log, keys } = parts
  const inState = (...names: string[]): Place => ({
    path: join(state.folder, UNFINISHED_RESTORE, ...names),
    owner: state.owner,
  })
  await backup.read({
    manifest: () => undefined,
    async entry(entry, content) {
      const place = placeOf(parts, entry)
      if (place !== undefined) await write(place, content, entry.mode)
    },
  })
  // The files of the log were opened before: only root may be able to read their folder.
  for (const { path, content } of log?.files.sources ?? []) await write(inState(...path.split('/')), content)
  for (const [name, content] of keys?.files ?? []) await write(inState('keys', name), [Buffer.from(content)])
  await write(inState(RESTORED_NOTE), [Buffer.from(`${JSON.stringify(note)}\n`)])
}
