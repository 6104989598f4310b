/**
 * The file of a backup: a stream of files, sealed in chunks under a key that is stretched from a passphrase. It knows nothing of
 * what an installation has. docs/backup.md describes the format.
 */
export type { Entry, Source, Visitor } from './content.ts'
export { openBackup, type OpenBackup, writeBackup } from './file.ts'
export { isBackup } from './header.ts'
