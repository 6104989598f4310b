/** Where V8 keeps what it has compiled, so that the next command reads it: a third of the CPU of `deputy --version`. */
import { existsSync, lstatSync, mkdirSync, realpathSync, statSync } from 'node:fs'
import { enableCompileCache } from 'node:module'
import { dirname, isAbsolute, join } from 'node:path'

/** Others than the owner may neither read nor write. */
const PRIVATE = 0o700
const [WRITABLE_BY_OTHERS, STICKY, ROOT] = [0o022, 0o1000, 0]

/**
 * Whether only the user and root can put another folder in the place of this one, at every level (as sshd's
 * StrictModes): root that runs
 * a command with the HOME of another user would otherwise run what that user has put there after the check.
 */
const isOutOfReach = (folder: string, uid: number): boolean => {
  const { mode, uid: owner } = statSync(folder)
  const isOurs = owner === uid || owner === ROOT
  const isClosed = (mode & WRITABLE_BY_OTHERS) === 0 || (mode & STICKY) !== 0
  return isOurs && isClosed && (dirname(folder) === folder || isOutOfReach(dirname(folder), uid))
}

/**
 * The folder for it: systemd's `CACHE_DIRECTORY`, else `deputy` in the user's cache folder (XDG Base Directory).
 * Undefined
 * where there is none that belongs to the user alone: compiled code is run unread, so a folder that another user can
 * write
 * would be a way to run code.
 */
export const compileCacheFolder = (
  environment: NodeJS.ProcessEnv,
  uid: number | undefined = process.getuid?.(),
): string | undefined => {
  const { CACHE_DIRECTORY, XDG_CACHE_HOME, HOME } = environment
  const base = [CACHE_DIRECTORY, XDG_CACHE_HOME, HOME && join(HOME, '.cache')].find((each) => each && isAbsolute(each))
  if (!base || uid === undefined) return undefined
  const folder = join(base, base === CACHE_DIRECTORY ? 'compiled' : 'deputy')
  try {
    // One level at a time: a home that does not exist is not made.
    for (const each of [base, folder]) if (!existsSync(each)) mkdirSync(each, { mode: PRIVATE })
    const { mode, uid: owner } = lstatSync(folder)
    const isPrivate = owner === uid && (mode & 0o7777 & ~PRIVATE) === 0
    return isPrivate && isOutOfReach(realpathSync(base), uid) ? folder : undefined
  } catch {
    // A home that cannot be written, or none: each start compiles.
    return undefined
  }
}

/** Does nothing where `NODE_COMPILE_CACHE` or `NODE_DISABLE_COMPILE_CACHE` has decided it. */
export const useCompileCache = (environment: NodeJS.ProcessEnv): void => {
  const folder = compileCacheFolder(environment)
  if (folder !== undefined) enableCompileCache(folder)
}
