import { randomUUID } from 'node:crypto'
import { readFile, realpath, rm, stat } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Clock, Random } from '#clock'
import type { Settings } from '#config'
import { refuse } from '#errors'
import { type LogFile, logFilesIn } from '#foundation/audit'
import { type OpenBackup, type Source, writeBackup } from '#foundation/backup'
import type { Secret } from '#foundation/crypto'
import { checkStoreFile, snapshotStore } from '#foundation/store'
import { configurationFiles } from './configuration-files.ts'
import { mergedKeys, ownKeys, readKeyFiles, tenantsWithKeys, textSource, type KeyFiles } from './data-keys.ts'
import { assertGood, inspectBackup, type BackupFacts } from './inspect.ts'
import { headsPath, layoutOf, OWN_KEY_FILE, type Layout } from './layout.ts'
import type { Kind, Manifest } from './manifest.ts'
import { openFiles, type OpenFiles } from './open-files.ts'
import { temporaryFolder } from './temporary-folder.ts'

export interface BackupOrder {
  readonly home: string
  readonly settings: Settings
  readonly environment: Readonly<Record<string, string | undefined>>
  /** The file to write; it must not exist. */
  readonly path: string
  /** The file of the tenants' data keys, which replaces an earlier one. */
  readonly dataKeys: string | undefined
  readonly keyFile: string
  readonly passphrase: Secret
  readonly clock: Clock
  readonly random: Random
  /** Of Deputy. */
  readonly version: string
  /**
   * Has a running daemon record the backup. @returns the durable files of its audit log; undefined where no daemon runs
   */
  readonly announce: (id: string) => Promise<readonly LogFile[] | undefined>
}

export interface BackupMade {
  readonly id: string
  readonly at: number
  readonly bytes: number
  readonly facts: BackupFacts
  readonly leftOut: readonly string[]
  /** Bytes of the file of data keys; null where none was asked for. */
  readonly dataKeysBytes: number | null
}

/** How often the audit log is looked at again when records left it meanwhile. */
const ATTEMPTS = 5

/**
 * What a daemon has named, as far as it is in the folder of this log: another daemon may listen at the socket, and root reads any file.
 * @throws DeputyError `store_unavailable` for files elsewhere
 */
const ownFiles = async (announced: readonly LogFile[], audit: string): Promise<LogFile[]> => {
  const folder = await realpath(audit)
  for (const path of new Set(announced.map((each) => dirname(each.path)))) {
    // One that is not there is the same folder as a daemon in a container sees it.
    const found = await realpath(path).catch(() => folder)
    if (found !== folder)
      throw refuse('store_unavailable', {
        problem: `the daemon at the admin socket keeps its audit log in ${path}, and not in ${audit}: it is another one`,
      })
  }
  return announced.map(({ name, bytes }) => ({ name, bytes, path: join(audit, basename(name)) }))
}

/** The audit log up to a moment after the store was read: what the store has is in it. */
const openLog = async ({ audit }: Layout, id: string, announce: BackupOrder['announce']): Promise<OpenFiles> => {
  const announced = await announce(id)
  if (announced === undefined && !existsSync(audit))
    return { sources: [], [Symbol.asyncDispose]: async () => undefined }
  const first = announced === undefined ? undefined : await openFiles(await ownFiles(announced, audit), 'audit')
  if (first !== undefined) return first
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const found = await openFiles(await logFilesIn(audit), 'audit')
    if (found !== undefined) return found
  }
  throw refuse('store_unavailable', { problem: `files of ${audit} went away while they were read` })
}

async function* joined(...parts: (AsyncIterable<Source> | Iterable<Source>)[]): AsyncGenerator<Source> {
  for (const part of parts) yield* part
}

/** Keys and heads that go with the store. */
const keySources = (keys: KeyFiles, heads: string | undefined): Source[] => {
  const own = keys.get(OWN_KEY_FILE)
  return [
    ...(own === undefined ? [] : [textSource(`keys/${OWN_KEY_FILE}`, own)]),
    ...(heads === undefined ? [] : [textSource('keys/audit-heads/local.json', heads)]),
  ]
}

interface Taken {
  readonly manifest: Manifest
  readonly keys: KeyFiles
  readonly heads: string | undefined
  readonly database: OpenFiles
}

/** A copy of the store that has no name any more: a kill leaves nothing of it behind. */
const openSnapshot = async ({ state, database }: Layout): Promise<{ schema: number; files: OpenFiles }> => {
  const folder = await temporaryFolder(state)
  try {
    const path = join(folder, 'deputy.db')
    snapshotStore(database, path)
    const store = checkStoreFile(path)
    assertGood({ store, log: undefined })
    const files = await openFiles([{ name: 'deputy.db', path, bytes: (await stat(path)).size }], 'store')
    return { schema: store.schema, files: files! }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/**
 * Reads heads, then keys, then the store, then keys again; the audit log comes after it. Nothing that is read earlier says of
 * anything that is read later that it is missing.
 */
const take = async (order: BackupOrder, layout: Layout): Promise<Taken> => {
  const heads = await readFile(headsPath(layout.keys), 'utf8').catch(() => undefined)
  const before = await readKeyFiles(layout.keys)
  const at = order.clock.now()
  const { schema, files } = await openSnapshot(layout)
  try {
    const keys = mergedKeys(before, await readKeyFiles(layout.keys))
    const manifest: Manifest = {
      id: randomUUID(),
      version: order.version,
      at,
      schema,
      own_keys: ownKeys(keys),
      tenants: tenantsWithKeys(keys),
    }
    return { manifest, keys, heads, database: files }
  } catch (error) {
    await files[Symbol.asyncDispose]()
    throw error
  }
}

/**
 * Writes a backup of the embedded store with its audit log, the configuration and Deputy's own data key, while a daemon runs or not.
 * The key-encryption key is never in it, and the tenants' data keys are in a file of their own.
 * @throws DeputyError `backup_unusable`, `store_unavailable`; nothing is left behind then
 */
export const createBackup = async (order: BackupOrder): Promise<BackupMade> => {
  const { path, passphrase, random, dataKeys, clock } = order
  const layout = layoutOf(order.home, order.settings)
  if (!existsSync(layout.database))
    throw refuse('backup_unusable', {
      file: path,
      problem: `there is no store ${layout.database} to copy`,
      fix: 'Name the folder of the configuration with --home. A daemon makes its store at its first start.',
    })
  const { manifest, keys, heads, database } = await take(order, layout)
  await using copy = database
  await using log = await openLog(layout, manifest.id, order.announce)
  const files = [path, order.keyFile, ...(dataKeys === undefined ? [] : [dataKeys])]
  const configuration = await configurationFiles({ ...order, layout, files })
  const facts: { found?: BackupFacts } = {}
  const sources = joined(configuration.sources, keySources(keys, heads), copy.sources, log.sources)
  const verify = async (written: OpenBackup): Promise<void> => {
    facts.found = await inspectBackup(written, { file: path, kind: 'installation' })
    assertGood(facts.found)
  }
  // First, so that a backup is never there without the keys of its moment.
  const dataKeysBytes = dataKeys === undefined ? null : await writeDataKeys(order, dataKeys, manifest, keys)
  const common = { passphrase, random, now: clock.now(), path, kind: 'installation', replaces: false }
  const bytes = await writeBackup({ ...common, manifest, sources, verify })
  const { id, at } = manifest
  return { id, at, bytes, facts: facts.found!, leftOut: configuration.leftOut, dataKeysBytes }
}

const writeDataKeys = (
  { passphrase, random, clock }: BackupOrder,
  path: string,
  manifest: Manifest,
  keys: KeyFiles,
): Promise<number> =>
  writeBackup({
    path,
    passphrase,
    random,
    now: clock.now(),
    replaces: true,
    kind: 'data-keys' satisfies Kind,
    manifest,
    sources: [...keys].map(([name, text]) => textSource(`keys/${name}`, text)),
    verify: async (written) => void (await inspectBackup(written, { file: path, kind: 'data-keys' })),
  })
