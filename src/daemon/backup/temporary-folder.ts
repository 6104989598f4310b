import { randomUUID } from 'node:crypto'
import { lstat, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

const NAME = /^deputy-backup-(\d+)-[\da-f-]{36}$/

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** A folder of mode 0700 for a copy of the store. Those of this user's processes that were killed are removed. */
export const temporaryFolder = async (parent: string): Promise<string> => {
  for (const name of await readdir(parent).catch(() => [])) {
    const pid = Number(NAME.exec(name)?.[1] ?? process.pid)
    if (isRunning(pid)) continue
    const found = await lstat(join(parent, name)).catch(() => undefined)
    if (found?.isDirectory() !== true || found.uid !== process.geteuid?.()) continue
    await rm(join(parent, name), { recursive: true, force: true }).catch(() => undefined)
  }
  const folder = join(parent, `deputy-backup-${process.pid}-${randomUUID()}`)
  await mkdir(folder, { mode: 0o700 })
  return folder
}
