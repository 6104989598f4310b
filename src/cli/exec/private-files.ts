import { lstat, mkdir, readdir, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Secret } from '#foundation/crypto'
import { makeFolders, replaceFile } from '#foundation/files'
import { isSameProcess, readProcess } from '#identity/workload'
import { CommandError, exit } from '../terminal.ts'

/** <linux/magic.h>: TMPFS_MAGIC, RAMFS_MAGIC. */
const IN_MEMORY = new Set([0x01021994, 0x858458f6])
const FOLDER = /^(\d{1,10})-(\d{1,20})$/

const isInMemory = (path: string): Promise<boolean> =>
  statfs(path).then(
    ({ type }) => IN_MEMORY.has(type),
    () => false,
  )

/** A folder that only this user can open. In a shared parent, another user may have made it before. @throws CommandError */
const privateFolder = async (path: string): Promise<string> => {
  await mkdir(path, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  const found = await lstat(path)
  if (!found.isDirectory() || found.uid !== process.getuid!() || (found.mode & 0o077) !== 0)
    throw new CommandError(
      exit.failed,
      `${path} is not a private folder of this user.`,
      `Remove it, or run: chmod 700 ${path}`,
    )
  return path
}

/** The parent of the folders with credentials. @throws CommandError when there is no folder in memory */
const baseFolder = async (runtimeFolder: string | undefined, allowDisk: boolean): Promise<string> => {
  const own = `deputy-exec-${process.getuid!()}`
  for (const folder of [...(runtimeFolder === undefined ? [] : [runtimeFolder]), '/dev/shm'])
    if (await isInMemory(folder)) return privateFolder(join(folder, own))
  if (allowDisk) return privateFolder(join(tmpdir(), own))
  throw new CommandError(
    exit.failed,
    'Files with credentials need a folder in memory, and neither XDG_RUNTIME_DIR nor /dev/shm is a tmpfs.',
    'Mount one, or accept files on disk with --allow-disk.',
  )
}

/** Removes the folders of processes that have ended: one that was killed removes nothing itself. */
const sweep = async (base: string): Promise<void> => {
  for (const name of await readdir(base)) {
    const [, pid, startedAt] = FOLDER.exec(name) ?? []
    if (pid !== undefined && startedAt !== undefined && !isSameProcess({ pid: Number(pid), startedAt }))
      await rm(join(base, name), { recursive: true, force: true })
  }
}

export interface PrivateFiles {
  readonly folder: string
  /** Writes a file whole, mode 0600. @returns its path */
  write(path: string, content: Secret): Promise<string>
  wipe(): Promise<void>
}

/** The files of this run: a folder named after this process, so that a later run can tell whether it still runs. */
export const openPrivateFiles = async (options: {
  runtimeFolder: string | undefined
  allowDisk: boolean
}): Promise<PrivateFiles> => {
  const base = await baseFolder(options.runtimeFolder, options.allowDisk)
  await sweep(base)
  const folder = await privateFolder(join(base, `${process.pid}-${readProcess(process.pid)!.startedAt}`))
  return {
    folder,
    async write(path, content) {
      const file = join(folder, path)
      await makeFolders(dirname(file))
      await replaceFile(file, content.reveal())
      return file
    },
    wipe: () => rm(folder, { recursive: true, force: true }),
  }
}
