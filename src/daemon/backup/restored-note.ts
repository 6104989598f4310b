import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import type { Store } from '#foundation/store'

const noteSchema = z.strictObject({
  /** Of the restore. */
  id: z.string(),
  /** The id of the backup, and when it read the store (ms since the epoch). */
  backup: z.string(),
  backup_at: z.int().min(0),
  restored_at: z.int().min(0),
  /** Whether the audit log went on behind the backup with nothing missing, so that all orders are restored from there. */
  later_log: z.boolean(),
  /** The last record of the log that was restored. */
  last_record: z.int().min(0),
})
/** What a restore leaves for the daemon that starts next. */
export type RestoredNote = z.output<typeof noteSchema>

export const RESTORED_NOTE = 'restored.json'

/** The note in a text. @returns undefined for another text */
export const noteIn = (text: string): RestoredNote | undefined => {
  try {
    return noteSchema.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}

const problemOf = ({ backup_at, later_log }: RestoredNote): string => {
  const time = new Date(backup_at).toISOString()
  return later_log
    ? `the store was restored from a backup of ${time}; its revocations, disabled users and frozen tenants since then are in the audit log and are in force; grants, consents and secrets since then are lost, and users who were enabled and tenants that were thawed since then are not`
    : `the store was restored from a backup of ${time}; revocations, disabled users and frozen tenants since then are not known: repeat them`
}

/**
 * Records that the store was restored, and opens a loss: `deputy status` tells of it until an administrator acknowledges it. A kill
 * in between does the same again.
 * @param state the state folder
 * @throws DeputyError `start_failed` for a note that cannot be read
 */
export const reportRestore = async (
  state: string,
  { store, audit, newId }: { readonly store: Store; readonly audit: AuditLog; readonly newId: () => string },
): Promise<void> => {
  const path = join(state, RESTORED_NOTE)
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (text === undefined) return
  const note = noteIn(text)
  if (note === undefined)
    throw refuse('start_failed', {
      problem: `${path} was altered`,
      fix: 'Restore the backup again: deputy restore --help',
    })
  const problem = problemOf(note)
  await store.losses.add({ id: note.id, node: store.audit.node, at: note.restored_at, detail: { problem } })
  await audit.append({ id: newId(), event: 'store.restored', outcome: 'done', detail: { ...note, problem } })
  await rm(path)
}
