/**
 * Owners of the files that commands write. An administrator often runs a command as root, and the daemon, which runs as
 * a user of its own, has to read what was written.
 */
import { constants } from 'node:fs'
import { open, stat, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { makeFolders } from '#foundation/files'

/** What the members of a group may do with a folder that they may read: list it and open files in it. */
const GROUP_READS = 0o050

interface Owner {
  readonly uid: number
  readonly gid: number
}

/**
 * Works on what is at the path itself. The owner of the folder may have put a link there meanwhile, and root would change what is
 * behind it.
 */
const withoutLinks = async (path: string, work: (file: FileHandle) => Promise<void>): Promise<void> => {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const found = await file.stat()
    // A file with two names is not one that was made a moment ago.
    if (found.isDirectory() || found.nlink === 1) await work(file)
  } finally {
    await file.close()
  }
}

/** Gives a file away as far as the kernel lets this user: root may do it, others may choose among their groups. */
const giveTo = async (file: FileHandle, { uid, gid }: Owner): Promise<void> => {
  const found = await file.stat()
  if (found.uid === uid && found.gid === gid) return
  await file.chown(uid, gid).catch(() => file.chown(found.uid, gid).catch(() => undefined))
}

/** Gives a new file or folder the owner and the group of its folder; members of the group may read it if they may read the folder. */
export const ownAsFolder = (path: string): Promise<void> =>
  withoutLinks(path, async (file) => {
    const [folder, found] = await Promise.all([stat(dirname(path)), file.stat()])
    await giveTo(file, folder)
    if ((folder.mode & GROUP_READS) === GROUP_READS)
      await file.chmod((found.mode & 0o777) | (found.isDirectory() ? GROUP_READS : 0o040))
  })

/** Gives a rewritten file the owner, group and mode that it had. */
export const ownAsBefore = (path: string, before: Owner & { readonly mode: number }): Promise<void> =>
  withoutLinks(path, async (file) => {
    await giveTo(file, before)
    await file.chmod(before.mode & 0o777)
  })

/** Gives a file with a secret, which its owner alone may read, to the user whose daemon reads it. */
export const ownAsDaemon = async (path: string, folders: readonly string[]): Promise<void> => {
  for (const folder of folders) {
    const found = await stat(folder).catch(() => undefined)
    if (found === undefined) continue
    await withoutLinks(path, (file) => giveTo(file, found))
    return
  }
}

/** Makes a folder below the home, unless it exists. */
export const makeFolder = async (path: string): Promise<void> => {
  if ((await makeFolders(path)) !== undefined) await ownAsFolder(path)
}
