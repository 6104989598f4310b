/**
 * Owners of the files that commands write. An administrator often runs a command as root, and the daemon, which runs as
 * a user of its own, has to read what was written.
 */
import { chmod, chown, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { makeFolders } from '#foundation/files'

/** What the members of a group may do with a folder that they may read: list it and open files in it. */
const GROUP_READS = 0o050

interface Owner {
  readonly uid: number
  readonly gid: number
}

/** Gives a file away as far as the kernel lets this user: root may do it, others may choose among their groups. */
const giveTo = async (path: string, { uid, gid }: Owner): Promise<void> => {
  const found = await stat(path)
  if (found.uid === uid && found.gid === gid) return
  await chown(path, uid, gid).catch(() => chown(path, found.uid, gid).catch(() => undefined))
}

/** Gives a new file or folder the owner and the group of its folder; members of the group may read it if they may read the folder. */
export const ownAsFolder = async (path: string): Promise<void> => {
  const [folder, found] = await Promise.all([stat(dirname(path)), stat(path)])
  await giveTo(path, folder)
  if ((folder.mode & GROUP_READS) === GROUP_READS)
    await chmod(path, (found.mode & 0o777) | (found.isDirectory() ? GROUP_READS : 0o040))
}

/** Gives a rewritten file the owner, group and mode that it had. */
export const ownAsBefore = async (path: string, before: Owner & { readonly mode: number }): Promise<void> => {
  await giveTo(path, before)
  await chmod(path, before.mode & 0o777)
}

/** Gives a file with a secret, which its owner alone may read, to the user whose daemon reads it. */
export const ownAsDaemon = async (path: string, folders: readonly string[]): Promise<void> => {
  for (const folder of folders) {
    const found = await stat(folder).catch(() => undefined)
    if (found === undefined) continue
    await giveTo(path, found)
    return
  }
}

/** Makes a folder below the home, unless it exists. */
export const makeFolder = async (path: string): Promise<void> => {
  if ((await makeFolders(path)) !== undefined) await ownAsFolder(path)
}
