import { createHash } from 'node:crypto'
import type { BigIntStats } from 'node:fs'
import { open, readlink, stat, type FileHandle } from 'node:fs/promises'
import { createLru } from '#foundation/lru'
import { refuse } from '#errors'

/** The program that a process runs. What could not be read, or proves nothing, is absent. */
export interface Executable {
  readonly exe?: string
  readonly sha256?: string
}

const CHUNK = 262_144

const isSameFile = (left: BigIntStats, right: BigIntStats): boolean => left.dev === right.dev && left.ino === right.ino

/** All that changes when the content of a file does. */
const versionOf = ({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string =>
  [dev, ino, size, mtimeNs, ctimeNs].join(':')

/** Digests of executables that were read before, by version. */
const digests = createLru<string, Promise<string>>({ max: 500 })

const hashOf = async (file: FileHandle, version: string): Promise<string> => {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(CHUNK)
  for (let at = 0; ;) {
    const { bytesRead } = await file.read(buffer, 0, CHUNK, at)
    if (bytesRead === 0) break
    hash.update(buffer.subarray(0, bytesRead))
    at += bytesRead
  }
  if (versionOf(await file.stat({ bigint: true })) !== version) throw refuse('workload_vanished')
  return hash.digest('hex')
}

/**
 * SHA-256 of the file that runs. Version and content are read from one open file: were the path opened again, a
 * process that changes its program in between could file another program's digest under its own (threat 2).
 */
const digestOf = async (link: string, running: BigIntStats): Promise<string> => {
  await using file = await open(link, 'r')
  const opened = await file.stat({ bigint: true })
  if (!isSameFile(opened, running)) throw refuse('workload_vanished')
  const version = versionOf(opened)
  let digest = digests.get(version)
  if (digest === undefined) {
    digest = hashOf(file, version)
    digests.set(version, digest)
    digest.catch(() => {
      digests.delete(version)
    })
  }
  return await digest
}

/**
 * The path of the file that runs, if it is that file in our view too. A process can mount whatever it likes over a
 * trusted path in a mount namespace of its own; what it sees there must not count here.
 */
const pathOf = async (link: string, running: BigIntStats): Promise<string | undefined> => {
  const path = await readlink(link)
  try {
    return isSameFile(await stat(path, { bigint: true }), running) ? path : undefined
  } catch {
    return undefined
  }
}

/**
 * Reads which program a process runs, through /proc/PID/exe: the very file, also when another has taken its path.
 * Of another user's process nothing can be read without the capability to (ptrace(2)); that is no error.
 * @throws DeputyError `workload_vanished` when the process changes its program meanwhile
 */
export const readExecutable = async (pid: number, wants: { sha256: boolean }): Promise<Executable> => {
  const link = `/proc/${pid}/exe`
  let running: BigIntStats
  try {
    running = await stat(link, { bigint: true })
  } catch {
    return {}
  }
  const [exe, sha256] = await Promise.all([
    pathOf(link, running),
    wants.sha256 ? digestOf(link, running).catch(unlessUnreadable) : undefined,
  ])
  const still = await stat(link, { bigint: true }).catch(() => undefined)
  if (still === undefined || !isSameFile(still, running)) throw refuse('workload_vanished')
  return { ...(exe === undefined ? {} : { exe }), ...(sha256 === undefined ? {} : { sha256 }) }
}

/** A program may be there to run and not to read (mode 0711): then it has no digest. */
const unlessUnreadable = (error: NodeJS.ErrnoException): undefined => {
  if (error.code === 'EACCES' || error.code === 'EPERM') return undefined
  throw refuse('workload_vanished', {}, error)
}
