import { join, resolve } from 'node:path'
import type { Settings } from '#config'
import { keysFolder, UNFINISHED_RESTORE } from '#daemon/foundation'

export { UNFINISHED_RESTORE }

/** Where an installation keeps what a backup holds. */
export interface Layout {
  readonly home: string
  readonly state: string
  readonly database: string
  readonly audit: string
  readonly keys: string
}

/** @throws DeputyError `config_invalid` where the folder of the keys is not known */
export const layoutOf = (home: string, settings: Pick<Settings, 'state' | 'keys'>): Layout => {
  const state = resolve(home, settings.state)
  return {
    home,
    state,
    database: join(state, 'deputy.db'),
    audit: join(state, 'audit'),
    keys: keysFolder(home, settings),
  }
}

/** Of the heads of audit chains, in the folder of the keys; the embedded store has one node. */
export const headsPath = (keys: string): string => join(keys, 'audit-heads', 'local.json')

/** The name of Deputy's own data key, in the folder of the keys and in backups. */
export const OWN_KEY_FILE = '_deputy.key'

/** The files of the key-encryption keys: never in a backup, and never moved by a restore. */
export const kekFiles = (home: string, { kek, kek_earlier }: Pick<Settings, 'kek' | 'kek_earlier'>): string[] =>
  [kek, ...kek_earlier].flatMap((each) => ('file' in each ? [resolve(home, each.file)] : []))

/** Where a restore has moved what was there before, with a time behind it. */
export const SET_ASIDE = 'before-restore-'

/** Names in a configuration folder that are no configuration. */
export const isForeign = (name: string): boolean =>
  ['.git', 'node_modules', UNFINISHED_RESTORE].includes(name) ||
  name.startsWith(SET_ASIDE) ||
  name.startsWith('.deputy-backup-')
