import { open } from 'node:fs/promises'
import { bytesOf, type LogFile, logFilesIn, LinkWalk } from '#foundation/audit'
import type { BackupFacts } from './inspect.ts'

/** An audit log that goes on where that of a backup ends. */
export interface LaterLog {
  readonly files: readonly LogFile[]
  /** Its last record. */
  readonly head: number
  /** How many records of each event came after those of the backup. */
  readonly events: ReadonlyMap<string, number>
}

interface Passed {
  readonly at: number
  readonly event: string
  readonly outcome: string
  readonly tenant: string | null
  readonly detail: { readonly covers?: { readonly kind?: string; readonly tenant?: string } }
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
 * Reads the log in a folder, and compares it with that of a backup.
 * @returns why it does not go on with the log of the backup, or the log
 */
export const readLaterLog = async (folder: string, { log }: BackupFacts): Promise<LaterLog | string> => {
  const files = await logFilesIn(folder)
  const from = log?.head ?? { seq: 0, hash: '' }
  const events = new Map<string, number>()
  let other: string | undefined
  const walked = await walkLog(files, ({ seq, hash, body }) => {
    if (seq === from.seq && hash !== from.hash) other = `it has another record ${seq}`
    if (seq <= from.seq) return
    const event = recordIn(body)?.event ?? 'unknown'
    events.set(event, (events.get(event) ?? 0) + 1)
  })
  if (other !== undefined) return other
  if (walked.problem !== undefined) return `at record ${walked.problem.seq}: ${walked.problem.why}`
  if (walked.chain === undefined) return 'it has no records'
  if (log?.chain !== undefined && walked.chain.installation !== log.chain.installation)
    return 'it belongs to another installation'
  if (log?.chain !== undefined && walked.chain.node !== log.chain.node) return `it is of the node ${walked.chain.node}`
  if (walked.head.seq < from.seq) return `it ends at record ${walked.head.seq}, and the backup has record ${from.seq}`
  return { files, head: walked.head.seq, events }
}

/** Tenants that were revoked as a whole after a moment (ms since the epoch): keys of theirs that are older were destroyed. */
export const tenantsRevokedAfter = async (files: readonly LogFile[], moment: number): Promise<ReadonlySet<string>> => {
  const tenants = new Set<string>()
  await walkLog(files, ({ body }) => {
    if (!body.includes('"event":"revocation"')) return
    const record = recordIn(body)
    const covers = record?.event === 'revocation' && record.outcome === 'done' ? record.detail.covers : undefined
    if (covers?.kind === 'tenant' && covers.tenant !== undefined && record!.at >= moment) tenants.add(covers.tenant)
  })
  return tenants
}
