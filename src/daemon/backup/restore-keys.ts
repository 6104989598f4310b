import { buffer } from 'node:stream/consumers'
import { refuse } from '#errors'
import { mergeKeyFiles, parseKeyFile } from '#foundation/crypto'
import type { OpenBackup } from '#foundation/backup'
import type { KeyFiles } from './data-keys.ts'
import { ownKeys, tenantOf } from './data-keys.ts'
import { OWN_KEY_FILE } from './layout.ts'
import { manifestSchema, type Manifest } from './manifest.ts'

/** The files of a backup's keys, by their names. */
export const keysIn = async (
  backup: OpenBackup,
): Promise<{ readonly manifest: Manifest; readonly files: KeyFiles }> => {
  const files = new Map<string, string>()
  let manifest: Manifest | undefined
  await backup.read({
    manifest(found) {
      manifest = manifestSchema.parse(found)
    },
    async entry({ path }, content) {
      const [root, name = '', below] = path.split('/')
      if (root === 'keys' && below === undefined && name.endsWith('.key'))
        files.set(name, (await buffer(content)).toString('utf8'))
    },
  })
  return { manifest: manifest!, files }
}

/**
 * Keys that are there are younger than any copy of them: they stay, and a tenant without one was destroyed.
 * @throws DeputyError `restore_refused` where they do not open the store of the backup
 */
export const assertLiveKeysFit = (live: KeyFiles, { own_keys }: Manifest, folder: string): void => {
  const known = new Set(ownKeys(live).map(({ key }) => key))
  if (own_keys.every(({ key }) => known.has(key))) return
  throw refuse('restore_refused', {
    problem: `the data keys in ${folder} do not open the store of the backup: they are of another installation, or Deputy's own key was replaced since`,
    fix: 'Move the folder of the keys away, and name the file of the data keys with --data-keys.',
  })
}

/** What becomes of the keys of a backup where no keys are there. */
export interface KeysToRestore {
  readonly files: KeyFiles
  /** Tenants of which the file of the data keys has a key that was destroyed since. */
  readonly destroyed: readonly string[]
}

/**
 * Deputy's own key of the backup, and the tenants' keys of the other file but for those that were destroyed since.
 * @param revoked tenants that were revoked as a whole after the keys were read
 * @throws DeputyError `restore_refused` for keys of another installation
 */
export const keysToRestore = (
  own: KeyFiles,
  tenants: { readonly manifest: Manifest; readonly files: KeyFiles } | undefined,
  revoked: ReadonlySet<string>,
): KeysToRestore => {
  if (tenants === undefined) return { files: own, destroyed: [] }
  const ids = (text: string | undefined): string[] =>
    text === undefined ? [] : parseKeyFile(text).map(({ key }) => key)
  const [here, there] = [own.get(OWN_KEY_FILE), tenants.files.get(OWN_KEY_FILE)]
  const isJoint = ids(here).some((key) => ids(there).includes(key))
  if (here !== undefined && there !== undefined && !isJoint)
    throw refuse('restore_refused', {
      problem:
        "the file of the data keys belongs to another installation, or Deputy's own key was replaced between the two",
      fix: 'Name the file that was written with this backup.',
    })
  const destroyed = [...tenants.files.keys()].map(tenantOf).filter((tenant) => revoked.has(tenant))
  const files = new Map([...tenants.files].filter(([name]) => !revoked.has(tenantOf(name))))
  const joint = here === undefined ? there : there === undefined ? here : mergeKeyFiles(here, there)
  if (joint !== undefined) files.set(OWN_KEY_FILE, joint)
  return { files, destroyed }
}
