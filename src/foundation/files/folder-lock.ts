import { type FileHandle, open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

// <sys/file.h>, <asm-generic/errno-base.h>
const LOCK_EX = 2
const LOCK_NB = 4
const EWOULDBLOCK = 11

const POLL_INTERVAL_MS = 50

/** Loaded where a folder is locked: it opens the C library. */
const loadCalls = async () => {
  const { default: koffi } = await import('koffi')
  return {
    errno: () => koffi.errno(),
    flock: koffi.load(null).func('int flock(int fd, int operation)') as (fd: number, operation: number) => number,
  }
}

let loaded: ReturnType<typeof loadCalls> | undefined

const tryLock = async (folder: FileHandle): Promise<boolean> => {
  const calls = await (loaded ??= loadCalls())
  if (calls.flock(folder.fd, LOCK_EX | LOCK_NB) === 0) return true
  // File systems without locks say another errno: the work is done without one then.
  return calls.errno() !== EWOULDBLOCK
}

/**
 * Locks a folder against other callers of this function, on this machine (flock(2)). The kernel ends the lock with the
 * process, and it leaves no file.
 * @param waitMs how long another holder is waited for
 * @returns undefined where another one holds it for longer
 * @throws errno(3) errors where the folder cannot be opened
 */
export const lockFolder = async (path: string, waitMs: number): Promise<AsyncDisposable | undefined> => {
  const folder = await open(path, 'r')
  for (let waited = 0; ; waited += POLL_INTERVAL_MS) {
    if (await tryLock(folder)) return { [Symbol.asyncDispose]: () => folder.close() }
    if (waited >= waitMs) {
      await folder.close()
      return undefined
    }
    await sleep(POLL_INTERVAL_MS)
  }
}
