/** What the kernel refuses, as a sentence with what to do about it. */
import { DeputyError, refuse } from '#errors'

export interface Failure {
  readonly problem: string
  readonly fix: string
}

/** errno(3), of calls on files and folders. */
const OF_FILES: Readonly<Record<string, (path: string) => Failure>> = {
  EACCES: (path) => ({
    problem: `this user may not use ${path}`,
    fix: `Give ${path} to the user that the daemon runs as, or name another place in deputy.yaml.`,
  }),
  EPERM: (path) => ({
    problem: `this user may not change ${path}`,
    fix: `Give ${path} to the user that the daemon runs as; a group in socket_group has to be one that this user is in.`,
  }),
  EROFS: (path) => ({
    problem: `${path} is on a file system that is read-only`,
    fix: 'Name a place that can be written in deputy.yaml: state, keys and the sockets under listen.',
  }),
  ENOSPC: (path) => ({ problem: `the disk has no room for ${path}`, fix: 'Free some room on that disk.' }),
  EDQUOT: (path) => ({
    problem: `the quota of this user has no room for ${path}`,
    fix: 'Raise the quota, or free some.',
  }),
  ENOENT: (path) => ({ problem: `${path} does not exist`, fix: `Make ${path}, or correct the path in deputy.yaml.` }),
  ENOTDIR: (path) => ({
    problem: `a part of the path ${path} is no folder`,
    fix: 'Correct the path in deputy.yaml, or move that file away.',
  }),
  EEXIST: (path) => ({
    problem: `${path} exists and is no folder`,
    fix: 'Correct the path in deputy.yaml, or move that file away.',
  }),
  EISDIR: (path) => ({ problem: `${path} is a folder`, fix: 'Name a file, or move the folder away.' }),
  ELOOP: (path) => ({ problem: `the links of ${path} lead in a circle`, fix: 'Correct the links.' }),
  ENAMETOOLONG: (path) => ({ problem: `the path ${path} is too long`, fix: 'Name a shorter one in deputy.yaml.' }),
  EIO: (path) => ({ problem: `the disk failed at ${path}`, fix: 'Look at the kernel log (dmesg) and the disk.' }),
  EMFILE: (path) => ({
    problem: `no file descriptor is left to open ${path}`,
    fix: 'Raise the limit (LimitNOFILE= of the unit, ulimit -n).',
  }),
  ENFILE: (path) => ({ problem: `the machine has no file descriptor left for ${path}`, fix: 'Raise fs.file-max.' }),
}

const isErrno = (error: unknown): error is NodeJS.ErrnoException & { code: string } =>
  error instanceof Error && 'syscall' in error && typeof (error as NodeJS.ErrnoException).code === 'string'

/** What a failed call on a file means; undefined for an error of another kind. @param named the path, where the error has none */
export const fileFailure = (error: unknown, named = 'a file'): Failure | undefined => {
  if (!isErrno(error)) return undefined
  const path = error.path ?? named
  // Node says ENOENT of a folder that a read-only file system does not take.
  if (error.syscall === 'mkdir' && error.code === 'ENOENT')
    return {
      problem: `the folder ${path} cannot be created`,
      fix: `Create it for the user that the daemon runs as, or name a place that can be written in deputy.yaml.`,
    }
  return (
    OF_FILES[error.code]?.(path) ?? {
      problem: `${error.syscall ?? 'a call'} on ${path} failed (${error.code})`,
      fix: `Look at ${path}: its kind, owner and mode.`,
    }
  )
}

/** A listener: where it is to be, and the setting that says so. */
export interface ListenPlace {
  readonly setting: string
  readonly address: string
}

/** What a failure to listen means. @returns DeputyError `start_failed` */
export const listenFailure = (error: unknown, { setting, address }: ListenPlace): DeputyError => {
  if (error instanceof DeputyError) return error
  const code = isErrno(error) ? error.code : undefined
  const failure = ((): Failure => {
    switch (code) {
      case 'EADDRINUSE':
        return {
          problem: `another program listens on ${address} already`,
          fix: `Stop the other program (ss -ltnxp shows it), or write another address in ${setting} of deputy.yaml.`,
        }
      case 'EADDRNOTAVAIL':
        return {
          problem: `${address} is no address of this machine`,
          fix: `Write an address of this machine in ${setting} of deputy.yaml.`,
        }
      case 'ENOTFOUND':
      case 'EAI_AGAIN':
        return {
          problem: `the name in ${address} has no address`,
          fix: `Write an address in ${setting} of deputy.yaml.`,
        }
      default: {
        const file = address.startsWith('/') ? fileFailure(error, address) : undefined
        if (file !== undefined) return file
        return code === 'EACCES'
          ? {
              problem: `this user may not listen on ${address}`,
              fix: `Write a port of 1024 or above in ${setting} of deputy.yaml.`,
            }
          : {
              problem: `${address} cannot be listened on (${code ?? (error as Error).message})`,
              fix: `Check ${setting} in deputy.yaml.`,
            }
      }
    }
  })()
  return refuse('start_failed', { problem: `${setting}: ${failure.problem}`, fix: failure.fix }, error)
}

/** Whatever ended a start, as an error with a sentence: never a stack trace. */
export const asStartFailure = (error: unknown): DeputyError => {
  // No daemon answers `deputy status` now: the error of a request would give advice that cannot be followed.
  if (error instanceof DeputyError && error.code === 'audit_unavailable')
    return refuse(
      'start_failed',
      {
        problem: `the audit sink ${String(error.facts['sink'])} does not confirm records (${String(error.facts['problem'])})`,
        fix: 'Repair the sink, or take it out of `audit` in deputy.yaml.',
      },
      error,
    )
  if (error instanceof DeputyError) return error
  return refuse(
    'start_failed',
    {
      ...(fileFailure(error) ?? {
        problem: `something failed that is not foreseen (${error instanceof Error ? error.message : String(error)})`,
        fix: 'Report this sentence, together with the version and the settings.',
      }),
    },
    error,
  )
}
