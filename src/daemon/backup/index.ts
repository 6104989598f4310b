/**
 * What a backup of an installation has in it, and how it comes back. `deputy backup` and `deputy restore` call it, beside a daemon or
 * without one; the daemon asks it at its start whether its store was restored.
 */
export { type BackupMade, createBackup } from './create.ts'
export { type BackupFacts, verifyBackup } from './inspect.ts'
export { type Restored, restoreBackup } from './restore.ts'
export { reportRestore } from './restored-note.ts'
