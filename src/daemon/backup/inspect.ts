import { open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { parseYamlFile, SETTINGS_FILE, settingsSchema, type Settings } from '#config'
import { refuse } from '#errors'
import { LinkWalk, type LinksWalked } from '#foundation/audit'
import { openBackup, type Entry, type OpenBackup, type Source } from '#foundation/backup'
import type { Secret } from '#foundation/crypto'
import { checkStoreFile, schemaProblem, type StoreFile } from '#foundation/store'
import { temporaryFolder } from './temporary-folder.ts'
import { manifestSchema, type Kind, type Manifest } from './manifest.ts'

/** What a backup holds, as it was found when all of it was read. */
export interface BackupFacts {
  readonly manifest: Manifest
  readonly bytes: number
  readonly files: { readonly configuration: number; readonly audit: number; readonly keys: number }
  /** Its deputy.yaml; undefined where it has none. */
  readonly settings: Settings | undefined
  /** The links of its audit log; undefined where it has none. */
  readonly log: LinksWalked | undefined
  /** Undefined where the store was not looked into. */
  readonly store: StoreFile | undefined
}

/** The database in a backup. */
export const DATABASE_ENTRY = 'store/deputy.db'
const SETTINGS_ENTRY = `configuration/${SETTINGS_FILE}`
const MAX_SETTINGS_BYTES = 1_048_576

/** Writes content into a new file, mode 0600. */
export const writeTo = async (path: string, content: Source['content'], mode = 0o600): Promise<void> => {
  const file = await open(path, 'wx', 0o600)
  try {
    for await (const piece of content) await file.writeFile(piece)
    await file.chmod(mode)
    await file.sync()
  } finally {
    await file.close()
  }
}

const settingsIn = (written: string): Settings | undefined =>
  parseYamlFile(SETTINGS_FILE, written, settingsSchema).values[0]?.value

/** @throws DeputyError `backup_unusable` for a backup that this version of Deputy cannot use */
const manifestOf = (found: unknown, file: string): Manifest => {
  const manifest = manifestSchema.safeParse(found).data
  if (manifest === undefined)
    throw refuse('backup_unusable', {
      file,
      problem: 'its manifest cannot be read',
      fix: 'Install the version of Deputy that has written it.',
    })
  const newer = schemaProblem(manifest.schema)
  if (newer !== undefined)
    throw refuse('backup_unusable', { file, problem: newer, fix: `Install Deputy ${manifest.version} or later.` })
  return manifest
}

const assertKind = (found: string, file: string, kind: Kind): void => {
  if (found === kind) return
  throw refuse('backup_unusable', {
    file,
    problem: kind === 'installation' ? 'it holds data keys, and no store' : 'it is not a file of data keys',
    fix: 'Name the backup first, and the file of the data keys with --data-keys.',
  })
}

export interface Inspection {
  readonly file: string
  readonly kind: Kind
  /** Looks into the store as well, for which it is written into a folder that only this user can open. */
  readonly withStore?: boolean
}

/**
 * Reads a backup to its end: each byte is authenticated, each file has its digest, the audit log is walked along.
 * @throws DeputyError `backup_unusable`
 */
export const inspectBackup = async (
  backup: OpenBackup,
  { file, kind, withStore }: Inspection,
): Promise<BackupFacts> => {
  assertKind(backup.kind, file, kind)
  const folder = withStore === true ? await temporaryFolder(tmpdir()) : undefined
  const files = { configuration: 0, audit: 0, keys: 0 }
  const walk = new LinkWalk()
  let isWalking = true
  const found: { manifest?: Manifest; settings?: Settings | undefined; store?: StoreFile } = {}
  const take = async ({ path }: Entry, content: AsyncIterable<Buffer>): Promise<void> => {
    const [root] = path.split('/') as [keyof typeof files | 'store']
    if (root !== 'store') files[root] += 1
    if (root === 'audit' && isWalking) isWalking = await walk.file(path, content)
    else if (path === DATABASE_ENTRY && folder !== undefined) await writeTo(join(folder, 'deputy.db'), content)
    else if (path === SETTINGS_ENTRY) found.settings = settingsIn((await buffer(content)).toString('utf8'))
  }
  try {
    await backup.read({
      manifest(manifest) {
        found.manifest = manifestOf(manifest, file)
      },
      async entry(entry, content) {
        if (entry.path === SETTINGS_ENTRY && entry.bytes > MAX_SETTINGS_BYTES)
          throw refuse('backup_unusable', {
            file,
            problem: `its ${SETTINGS_FILE} is too long`,
            fix: 'Take another backup.',
          })
        await take(entry, content)
      },
    })
    if (folder !== undefined && kind === 'installation') found.store = checkStoreFile(join(folder, 'deputy.db'))
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true })
  }
  return {
    manifest: found.manifest!,
    bytes: backup.bytes,
    files,
    settings: found.settings,
    log: files.audit === 0 ? undefined : walk.finish(),
    store: found.store,
  }
}

/** @throws DeputyError `backup_unusable` where the audit log or the store that was copied is damaged */
export const assertGood = ({ log, store }: Pick<BackupFacts, 'log' | 'store'>): void => {
  if (log?.problem !== undefined)
    throw refuse('backup_unusable', {
      file: 'the audit log',
      problem: `at record ${log.problem.seq}: ${log.problem.why}`,
      fix: 'Run deputy audit verify where it came from. To keep the log as it is, stop the daemon and copy the folder of its state.',
    })
  if (store?.problem !== undefined)
    throw refuse('backup_unusable', {
      file: 'the store',
      problem: store.problem,
      fix: 'Restore an earlier backup. To keep the store as it is, stop the daemon and copy the folder of its state.',
    })
}

/** `inspectBackup` of a backup of an installation, with its store. @throws DeputyError `backup_unusable` */
export const verifyBackup = async (path: string, passphrase: Secret): Promise<BackupFacts> => {
  const backup = await openBackup(path, passphrase)
  try {
    const facts = await inspectBackup(backup, { file: path, kind: 'installation', withStore: true })
    assertGood(facts)
    return facts
  } finally {
    await backup.close()
  }
}
