import { open, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { bytesOf, type HeadFile, type LogFile, logFilesIn, LinkWalk } from '#foundation/audit'
import type { BackupFacts } from './inspect.ts'
import { UNFINISHED_RESTORE } from './layout.ts'
import { openFiles, type OpenFiles } from './open-files.ts'
import { noteIn, RESTORED_NOTE } from './restored-note.ts'

/** An audit log that goes on where that of a backup ends. */
export interface LaterLog {
  readonly files: OpenFiles
  /** Its last record. */
  readonly head: number
  /** How many records of each event came after those of the backup. */
  readonly events: ReadonlyMap<string, number>
  /** Tenants that were revoked as a whole after the backup with an id, or after a moment (ms since the epoch). */
  readonly revokedAfter: (backup: { readonly id: string; readonly at: number }) => Promise<ReadonlySet<string>>
  /** Why orders since the backup may be missing in it. */
  readonly lacks: string | undefined
}

interface Passed {
  readonly at: number
  readonly event: string
  readonly outcome: string
  readonly tenant: string | null
  readonly detail: {
    readonly covers?: { readonly kind?: string; readonly tenant?: string }
    readonly backup?: string
    readonly id?: string
    readonly later_log?: boolean
    readonly losses?: readonly string[]
  }
}

const recordIn = (body: string): Passed | undefined => {
  try {
    return JSON.parse(body) as Passed
  } catch {
    return undefined
  }
}

/** Walks along a log. @param passed gets each of its records */
const walkLog = async (
  files: readonly LogFile[],
  passed: ConstructorParameters<typeof LinkWalk>[0],
): Promise<ReturnType<LinkWalk['finish']>> => {
  const walk = new LinkWalk(passed)
  for (const { path, bytes } of files) {
    const file = await open(path, 'r')
    try {
      if (!(await walk.file(path, bytesOf(file, bytes)))) break
    } finally {
      await file.close()
    }
  }
  return walk.finish()
}

/**
 * Tenants that were revoked as a whole since a copy of their keys was made: those keys were destroyed. The record of the copy counts as
 * well as its time, because clocks are put back.
 */
const revokedAfter = async (
  files: readonly LogFile[],
  { id, at }: { readonly id: string; readonly at: number },
): Promise<ReadonlySet<string>> => {
  const tenants = new Set<string>()
  let isLater = false
  await walkLog(files, ({ body }) => {
    if (body.includes('"event":"store.backup"') && recordIn(body)?.detail.backup === id) isLater = true
    if (!body.includes('"event":"revocation"')) return
    const record = recordIn(body)
    const covers = record?.event === 'revocation' && record.outcome === 'done' ? record.detail.covers : undefined
    if (covers?.kind === 'tenant' && covers.tenant !== undefined && (isLater || record!.at >= at))
      tenants.add(covers.tenant)
  })
  return tenants
}

/** Whether a restore without a later log has put this log in its place, and no daemon has recorded that yet. */
const isOfLossyRestore = async (folder: string): Promise<boolean> => {
  const state = dirname(folder)
  for (const path of [join(state, RESTORED_NOTE), join(state, UNFINISHED_RESTORE, RESTORED_NOTE)]) {
    const text = await readFile(path, 'utf8').catch(() => undefined)
    if (text !== undefined && noteIn(text)?.later_log !== true) return true
  }
  return false
}

/** Restores of which the orders before them were not known, until an administrator has acknowledged them. */
class LossyRestores {
  readonly #open = new Set<string>()

  pass({ event, detail }: Passed): void {
    if (event === 'store.restored' && detail.later_log === false && detail.id !== undefined) this.#open.add(detail.id)
    if (event === 'store.acknowledge') for (const id of detail.losses ?? []) this.#open.delete(id)
  }

  get any(): boolean {
    return this.#open.size > 0
  }
}

/**
 * Reads the log in a folder, and compares it with that of a backup.
 * @param heads beside the data keys: the newest records of the log that were signed
 * @returns why it does not go on with the log of the backup, or the log
 */
export const readLaterLog = async (
  folder: string,
  { log }: BackupFacts,
  heads: HeadFile | undefined,
): Promise<LaterLog | string> => {
  const files = await logFilesIn(folder)
  const from = log?.head ?? { seq: 0, hash: '' }
  const events = new Map<string, number>()
  const restores = new LossyRestores()
  const own = (heads?.heads ?? []).filter(
    ({ installation, node }) => log?.chain?.installation === installation && log.chain.node === node,
  )
  let other: string | undefined
  const walked = await walkLog(files, ({ seq, hash, body }) => {
    if (seq === from.seq && hash !== from.hash) other = `it has another record ${seq}`
    if (own.some((head) => head.seq === seq && head.hash !== hash))
      other = `its record ${seq} is not the one that was signed: the heads beside the data keys have another`
    if (seq <= from.seq) return
    const record = recordIn(body)
    const event = record?.event ?? 'unknown'
    events.set(event, (events.get(event) ?? 0) + 1)
    if (record !== undefined) restores.pass(record)
  })
  if (other !== undefined) return other
  if (walked.problem !== undefined) return `at record ${walked.problem.seq}: ${walked.problem.why}`
  if (walked.chain === undefined) return 'it has no records'
  if (log?.chain !== undefined && walked.chain.installation !== log.chain.installation)
    return 'it belongs to another installation'
  if (log?.chain !== undefined && walked.chain.node !== log.chain.node) return `it is of the node ${walked.chain.node}`
  const head = walked.head.seq
  if (head < from.seq) return `it ends at record ${head}, and the backup has record ${from.seq}`
  const opened = await openFiles(files, 'audit')
  if (opened === undefined) return 'files of it went away while it was read'
  const known = Math.max(0, ...own.map(({ seq }) => seq))
  const lacks =
    known > head
      ? `it ends at record ${head}, and the heads beside the data keys know record ${known}`
      : (await isOfLossyRestore(folder))
        ? 'it is that of an earlier restore for which no later log was known'
        : restores.any
          ? 'an earlier restore for which no later log was known is in it, and was not acknowledged'
          : undefined
  return { files: opened, head, events, lacks, revokedAfter: (backup) => revokedAfter(files, backup) }
}
