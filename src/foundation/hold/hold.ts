import { chmodSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'

/** https://www.sqlite.org/rescode.html#busy */
const BUSY = 5

/**
 * A connection of its own holds the lock file as long as the process lives: two daemons on one folder would each
 * believe their own caches. The lock goes with the process, also when it is killed.
 * @param path of the lock file
 * @throws Error for which `isHeld` is true where another process has it
 */
export const takeHold = (path: string): DatabaseSync => {
  const lock = new DatabaseSync(path)
  // By its name: closing any other descriptor of this file would drop the locks that this process has on it (fcntl(2)).
  chmodSync(path, 0o600)
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch (error) {
    lock.close()
    throw error
  }
  return lock
}

export const isHeld = (error: unknown): boolean => (((error as { errcode?: number }).errcode ?? -1) & 0xff) === BUSY
