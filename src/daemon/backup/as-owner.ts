import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Who gets the files that root restores. */
export interface Owner {
  readonly uid: number
  readonly gid: number
}

/** The owner of a folder, or of the one above that it will be made in; undefined where this process is not root's. */
export const ownerOf = async (folder: string): Promise<Owner | undefined> => {
  if (process.geteuid?.() !== 0) return undefined
  const found = await stat(folder).catch(() => undefined)
  if (found !== undefined) return { uid: found.uid, gid: found.gid }
  return dirname(folder) === folder ? undefined : ownerOf(dirname(folder))
}

/**
 * Works as the owner of a folder. Root would follow links that this user puts there meanwhile, and give away what is behind them.
 * The whole process is that user's until the work is done: nothing else may run beside it.
 */
export const asOwner = async <T>(owner: Owner | undefined, work: () => T | Promise<T>): Promise<T> => {
  if (owner === undefined || process.geteuid?.() !== 0) return work()
  const [gid, groups] = [process.getegid!(), process.getgroups!()]
  process.setgroups!([owner.gid])
  process.setegid!(owner.gid)
  process.seteuid!(owner.uid)
  try {
    return await work()
  } finally {
    process.seteuid!(0)
    process.setegid!(gid)
    process.setgroups!(groups)
  }
}
