import { randomUUID } from 'node:crypto'
import { chmod, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '#clock'
import type { Settings } from '#config'
import { refuse } from '#errors'
import { readHeadFile } from '#foundation/audit'
import { openBackup, type OpenBackup } from '#foundation/backup'
import type { Secret } from '#foundation/crypto'
import { syncFolder } from '#foundation/files'
import { checkStoreFile, holdStore } from '#foundation/store'
import { readKeyFiles, tenantsWithKeys, type KeyFiles } from './data-keys.ts'
import { inspectBackup, type BackupFacts } from './inspect.ts'
import { readLaterLog, tenantsRevokedAfter, type LaterLog } from './later-log.ts'
import { headsPath, layoutOf, UNFINISHED_RESTORE, type Layout } from './layout.ts'
import { assertLiveKeysFit, keysIn, keysToRestore, type KeysToRestore } from './restore-keys.ts'
import { makeFolder, makeReady } from './make-ready.ts'
import type { RestoredNote } from './restored-note.ts'
import { assertFree, configurationTarget, moveIn, setAside, stateTarget, type Target } from './target.ts'

export interface RestoreOrder {
  readonly home: string
  readonly path: string
  readonly dataKeys: string | undefined
  readonly passphrase: Secret
  readonly clock: Clock
  /** The settings of the home, whose configuration stays; undefined where it is restored as well. */
  readonly configured: Settings | undefined
  /** Moves aside what is there. */
  readonly replaces: boolean
  /** A folder with the audit log that goes on behind that of the backup. */
  readonly log: string | undefined
  /** The administrator knows that orders since the backup are lost. */
  readonly acceptsLoss: boolean
}

/** What a restore has brought back, and what it has not. */
export interface Restored {
  readonly facts: BackupFacts
  readonly setAside: readonly string[]
  /** The log that goes on behind the backup; null where there is none. */
  readonly laterLog: { readonly head: number; readonly events: Readonly<Record<string, number>> } | null
  /** The last record that the heads beside the keys know; null where none do. */
  readonly knownRecord: number | null
  readonly keys: {
    readonly from: 'the folder of the keys' | 'the backup'
    /** Tenants whose data cannot be read: there is no key. */
    readonly missing: readonly string[]
    /** Tenants that were revoked since, so that their keys were left out. */
    readonly destroyed: readonly string[]
  }
}

interface Plan {
  readonly layout: Layout
  readonly facts: BackupFacts
  readonly state: Target
  /** Undefined where the configuration stays. */
  readonly configuration: Target | undefined
  readonly log: LaterLog | undefined
  /** Undefined where the keys that are there stay. */
  readonly keys: KeysToRestore | undefined
  readonly live: KeyFiles
  readonly knownRecord: number | null
}

const targetsOf = ({ state, configuration }: Plan): Target[] =>
  configuration === undefined ? [state] : [state, configuration]

const settingsFor = ({ configured, path }: RestoreOrder, facts: BackupFacts): Settings => {
  const settings = configured ?? facts.settings
  if (settings === undefined)
    throw refuse('backup_unusable', {
      file: path,
      problem: 'its deputy.yaml cannot be read by this version of Deputy',
      fix: `Install Deputy ${facts.manifest.version}, or write a deputy.yaml into the home and add --keep-configuration.`,
    })
  if (settings.store !== 'embedded')
    throw refuse('restore_refused', {
      problem: 'deputy.yaml names Postgres as the store, and a backup is one of the embedded store',
      fix: 'Restore with a deputy.yaml that has no `store`, and then run deputy store copy.',
    })
  return settings
}

/** @throws DeputyError `restore_refused` where orders of an administrator would be undone without saying so */
const findLaterLog = async (
  order: RestoreOrder,
  { audit }: Layout,
  facts: BackupFacts,
): Promise<LaterLog | undefined> => {
  const folder = order.log ?? (order.replaces ? audit : undefined)
  const hasLog = folder !== undefined && (await readdir(folder).catch(() => [])).length > 0
  if (order.log !== undefined && !hasLog)
    throw refuse('restore_refused', {
      problem: `${order.log} holds no audit log`,
      fix: 'Name the folder with the files *.jsonl.',
    })
  const found = hasLog ? await readLaterLog(folder, facts) : undefined
  if (typeof found === 'object') return found
  if (order.acceptsLoss) return undefined
  const time = new Date(facts.manifest.at).toISOString()
  throw refuse('restore_refused', {
    problem:
      found === undefined
        ? `revocations, disabled users and frozen tenants since the backup of ${time} are not known, and would be undone`
        : `the audit log in ${folder} does not go on with that of the backup: ${found}`,
    fix: 'Name the folder of an audit log that goes on behind the backup with --log (state/audit of the lost installation, or a copy of it). If there is none, add --accept-loss, and repeat those orders after the restore.',
  })
}

const planKeys = async (
  order: RestoreOrder,
  backup: OpenBackup,
  { layout, facts, log }: Pick<Plan, 'layout' | 'facts' | 'log'>,
): Promise<{ live: KeyFiles; keys: KeysToRestore | undefined }> => {
  const live = await readKeyFiles(layout.keys)
  if (live.size > 0) {
    assertLiveKeysFit(live, facts.manifest, layout.keys)
    return { live, keys: undefined }
  }
  if (order.dataKeys === undefined)
    return { live, keys: keysToRestore((await keysIn(backup)).files, undefined, new Set()) }
  const opened = await openBackup(order.dataKeys, order.passphrase)
  try {
    await inspectBackup(opened, { file: order.dataKeys, kind: 'data-keys' })
    const tenants = await keysIn(opened)
    const revoked = log === undefined ? new Set<string>() : await tenantsRevokedAfter(log.files, tenants.manifest.at)
    return { live, keys: keysToRestore((await keysIn(backup)).files, tenants, revoked) }
  } finally {
    await opened.close()
  }
}

const plan = async (order: RestoreOrder, backup: OpenBackup): Promise<Plan> => {
  const facts = await inspectBackup(backup, { file: order.path, kind: 'installation' })
  if (facts.log?.problem !== undefined)
    throw refuse('backup_unusable', {
      file: order.path,
      problem: `its audit log does not hold at record ${facts.log.problem.seq}: ${facts.log.problem.why}`,
      fix: 'Use another backup.',
    })
  const settings = settingsFor(order, facts)
  const layout = layoutOf(order.home, settings)
  const state = await stateTarget(layout, settings)
  const configuration = order.configured === undefined ? await configurationTarget(layout, settings) : undefined
  for (const target of [state, ...(configuration === undefined ? [] : [configuration])])
    assertFree(target, order.replaces)
  const log = await findLaterLog(order, layout, facts)
  const heads = await readHeadFile(headsPath(layout.keys))
  const known = [...(heads?.heads ?? []), ...(heads?.missing ?? [])].map(({ seq }) => seq)
  return {
    layout,
    facts,
    state,
    configuration,
    log,
    knownRecord: known.length === 0 ? null : Math.max(...known),
    ...(await planKeys(order, backup, { layout, facts, log })),
  }
}

/** Everything that is ready goes to its place: a daemon does not start before the last step. */
const putInPlace = async (planned: Plan, now: number): Promise<string[]> => {
  const { layout, state, configuration } = planned
  const aside: string[] = []
  for (const target of targetsOf(planned)) {
    const moved = await setAside(target, now)
    if (moved !== undefined) aside.push(moved)
  }
  const staging = join(state.folder, UNFINISHED_RESTORE)
  const keys = join(staging, 'keys')
  if ((await readdir(keys).catch(() => [])).length > 0) {
    await makeFolder(layout.keys, state.owner)
    await chmod(layout.keys, 0o700)
    await moveIn(keys, layout.keys, '_deputy.key')
  }
  await rm(keys, { recursive: true, force: true })
  await moveIn(staging, state.folder, 'deputy.db')
  if (configuration !== undefined) {
    await moveIn(join(configuration.folder, UNFINISHED_RESTORE), configuration.folder, 'deputy.yaml')
    await rm(join(configuration.folder, UNFINISHED_RESTORE), { recursive: true, force: true })
  }
  await rm(staging, { recursive: true, force: true })
  await syncFolder(state.folder)
  return aside
}

const stagingFolders = (planned: Plan): string[] =>
  targetsOf(planned).map(({ folder }) => join(folder, UNFINISHED_RESTORE))

/**
 * Brings an installation back from a backup: into empty folders, or what is there is moved aside. All of the backup is verified
 * before anything is written, and no daemon starts there before everything is in its place.
 * @throws DeputyError `restore_refused`, `backup_unusable`; `start_failed` where a daemon runs there
 */
export const restoreBackup = async (order: RestoreOrder): Promise<Restored> => {
  const backup = await openBackup(order.path, order.passphrase)
  try {
    const planned = await plan(order, backup)
    const { facts, layout, log, keys, live, knownRecord } = planned
    const now = order.clock.now()
    for (const { folder, owner } of targetsOf(planned)) await makeFolder(folder, owner)
    if (order.configured === undefined) await chmod(layout.state, 0o700)
    using _hold = holdStore(layout.database)
    const remove = (): Promise<void[]> =>
      Promise.all(stagingFolders(planned).map((folder) => rm(folder, { recursive: true, force: true })))
    await remove()
    const note: RestoredNote = {
      id: `restore-${randomUUID()}`,
      backup: facts.manifest.id,
      backup_at: facts.manifest.at,
      restored_at: now,
      later_log: log !== undefined,
      last_record: log?.head ?? facts.log?.head.seq ?? 0,
    }
    try {
      await makeReady(backup, planned, note)
      const store = checkStoreFile(join(layout.state, UNFINISHED_RESTORE, 'deputy.db'))
      if (store.problem !== undefined)
        throw refuse('backup_unusable', {
          file: order.path,
          problem: `its store is damaged: ${store.problem}`,
          fix: 'Use another backup.',
        })
    } catch (error) {
      await remove()
      throw error
    }
    const aside = await putInPlace(planned, now)
    const there = new Set(tenantsWithKeys(keys?.files ?? live))
    return {
      facts,
      setAside: aside,
      laterLog: log === undefined ? null : { head: log.head, events: Object.fromEntries(log.events) },
      knownRecord,
      keys: {
        from: keys === undefined ? 'the folder of the keys' : 'the backup',
        missing: facts.manifest.tenants.filter((tenant) => !there.has(tenant)),
        destroyed: keys?.destroyed ?? [],
      },
    }
  } finally {
    await backup.close()
  }
}
