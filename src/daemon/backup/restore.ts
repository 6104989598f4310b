import { randomUUID } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '#clock'
import type { Settings } from '#config'
import { refuse } from '#errors'
import { type HeadFile, readHeadFile } from '#foundation/audit'
import { openBackup, type OpenBackup } from '#foundation/backup'
import type { Secret } from '#foundation/crypto'
import { makeFolders } from '#foundation/files'
import { checkStoreFile, holdStore } from '#foundation/store'
import { asOwner, ownerOf } from './as-owner.ts'
import { readKeyFiles, tenantsWithKeys, type KeyFiles } from './data-keys.ts'
import { inspectBackup, type BackupFacts } from './inspect.ts'
import { readLaterLog, type LaterLog } from './later-log.ts'
import { headsPath, layoutOf, SET_ASIDE, UNFINISHED_RESTORE, type Layout } from './layout.ts'
import { assertLiveKeysFit, keysIn, keysToRestore, type KeysToRestore } from './restore-keys.ts'
import { makeReady } from './make-ready.ts'
import type { RestoredNote } from './restored-note.ts'
import { makeTargets, putInPlace, removeUnfinished } from './put-in-place.ts'
import { assertFree, configurationTarget, stateTarget, type Target } from './target.ts'

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
  readonly laterLog: {
    readonly head: number
    readonly events: Readonly<Record<string, number>>
    /** Why orders since the backup may be missing in it. */
    readonly lacks: string | null
  } | null
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

/** The log of the state folder. A restore that was killed may have moved it aside already. */
const ownLog = async ({ state, audit }: Layout): Promise<string> => {
  if (existsSync(audit) || !existsSync(join(state, UNFINISHED_RESTORE))) return audit
  const aside = (await readdir(state)).filter((name) => name.startsWith(SET_ASIDE)).toSorted()
  return aside.length === 0 ? audit : join(state, aside.at(-1)!, 'audit')
}

/** @throws DeputyError `restore_refused` where orders of an administrator would be undone without saying so */
const findLaterLog = async (
  order: RestoreOrder,
  layout: Layout,
  { facts, heads }: { readonly facts: BackupFacts; readonly heads: HeadFile | undefined },
): Promise<LaterLog | undefined> => {
  const folder = order.log ?? (order.replaces ? await ownLog(layout) : undefined)
  const hasLog = folder !== undefined && (await readdir(folder).catch(() => [])).length > 0
  if (order.log !== undefined && !hasLog)
    throw refuse('restore_refused', {
      problem: `${order.log} holds no audit log`,
      fix: 'Name the folder with the files *.jsonl.',
    })
  const found = hasLog ? await readLaterLog(folder, facts, heads) : undefined
  const isLog = typeof found === 'object'
  if (isLog && (order.acceptsLoss || found.lacks === undefined)) return found
  if (isLog) await found.files[Symbol.asyncDispose]()
  if (!isLog && order.acceptsLoss) return undefined
  const time = new Date(facts.manifest.at).toISOString()
  throw refuse('restore_refused', {
    problem:
      found === undefined
        ? `revocations, disabled users and frozen tenants since the backup of ${time} are not known, and would be undone`
        : isLog
          ? `orders since the backup may be missing in the audit log in ${folder}, and would be undone: ${found.lacks}`
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
    const revoked = log === undefined ? new Set<string>() : await log.revokedAfter(tenants.manifest)
    return { live, keys: keysToRestore((await keysIn(backup)).files, tenants, revoked) }
  } finally {
    await opened.close()
  }
}

const readFacts = async (order: RestoreOrder, backup: OpenBackup): Promise<BackupFacts> => {
  const facts = await inspectBackup(backup, { file: order.path, kind: 'installation' })
  if (facts.log?.problem !== undefined)
    throw refuse('backup_unusable', {
      file: order.path,
      problem: `its audit log does not hold at record ${facts.log.problem.seq}: ${facts.log.problem.why}`,
      fix: 'Use another backup.',
    })
  return facts
}

const plan = async (
  order: RestoreOrder,
  backup: OpenBackup,
  { facts, layout, settings }: Pick<Plan, 'facts' | 'layout'> & { readonly settings: Settings },
): Promise<Plan> => {
  const state = await stateTarget(layout, settings)
  const configuration = order.configured === undefined ? await configurationTarget(layout, settings) : undefined
  for (const target of [state, ...(configuration === undefined ? [] : [configuration])])
    assertFree(target, order.replaces)
  const heads = await readHeadFile(headsPath(layout.keys))
  const log = await findLaterLog(order, layout, { facts, heads })
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

/**
 * Holds the store, from before its audit log is read where there is one: a daemon that ends meanwhile has written orders that would be
 * lost.
 * @throws DeputyError `start_failed` where a daemon runs there, or another restore does
 */
const withHold = async <T>(
  { database, state }: Layout,
  look: () => Promise<T>,
  work: (seen: T) => Promise<Restored>,
): Promise<Restored> => {
  const owner = await ownerOf(state)
  const wasThere = existsSync(`${database}.hold`)
  const hold = () => asOwner(owner, () => holdStore(database))
  if (wasThere) {
    using _hold = await hold()
    return work(await look())
  }
  const seen = await look()
  if (existsSync(`${database}.hold`))
    throw refuse('restore_refused', {
      problem: `another restore or a daemon has used ${state} meanwhile`,
      fix: 'Look at what is there, and run the command again.',
    })
  await asOwner(owner, () => makeFolders(state))
  using _hold = await hold()
  return work(seen)
}

const noteOf = ({ facts, log }: Plan, now: number): RestoredNote => ({
  id: `restore-${randomUUID()}`,
  backup: facts.manifest.id,
  backup_at: facts.manifest.at,
  restored_at: now,
  later_log: log !== undefined && log.lacks === undefined,
  last_record: log?.head ?? facts.log?.head.seq ?? 0,
})

const carryOut = async (order: RestoreOrder, backup: OpenBackup, planned: Plan): Promise<Restored> => {
  const { facts, layout, log, keys, live, knownRecord } = planned
  const now = order.clock.now()
  await makeTargets(planned)
  await removeUnfinished(planned)
  try {
    await makeReady(backup, planned, noteOf(planned, now))
    const store = checkStoreFile(join(layout.state, UNFINISHED_RESTORE, 'deputy.db'))
    if (store.problem !== undefined)
      throw refuse('backup_unusable', {
        file: order.path,
        problem: `its store is damaged: ${store.problem}`,
        fix: 'Use another backup.',
      })
  } catch (error) {
    await removeUnfinished(planned)
    throw error
  }
  const aside = await putInPlace(planned, now)
  const there = new Set(tenantsWithKeys(keys?.files ?? live))
  return {
    facts,
    setAside: aside,
    laterLog:
      log === undefined ? null : { head: log.head, events: Object.fromEntries(log.events), lacks: log.lacks ?? null },
    knownRecord,
    keys: {
      from: keys === undefined ? 'the folder of the keys' : 'the backup',
      missing: facts.manifest.tenants.filter((tenant) => !there.has(tenant)),
      destroyed: keys?.destroyed ?? [],
    },
  }
}

/**
 * Brings an installation back from a backup: into empty folders, or what is there is moved aside. All of the backup is verified
 * before anything is written, and no daemon starts there before everything is in its place.
 * @throws DeputyError `restore_refused`, `backup_unusable`; `start_failed` where a daemon runs there
 */
export const restoreBackup = async (order: RestoreOrder): Promise<Restored> => {
  const backup = await openBackup(order.path, order.passphrase)
  const opened: { log?: LaterLog | undefined } = {}
  try {
    const facts = await readFacts(order, backup)
    const settings = settingsFor(order, facts)
    const layout = layoutOf(order.home, settings)
    const look = async (): Promise<Plan> => {
      const planned = await plan(order, backup, { facts, layout, settings })
      opened.log = planned.log
      return planned
    }
    return await withHold(layout, look, (planned) => carryOut(order, backup, planned))
  } finally {
    await opened.log?.files[Symbol.asyncDispose]()
    await backup.close()
  }
}
