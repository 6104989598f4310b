import { chmod, chown, lstat, unlink } from 'node:fs/promises'
import { connect, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { refuse } from '#errors'
import { makeFolders } from './make-folders.ts'
import { listenFailure } from './start-failure.ts'

/** True when a process answers on the socket: then it is in use and must not be removed. */
const isAnswered = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const probe: Socket = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => {
      resolve(false)
    })
  })

export const listening = (server: Server, start: () => void): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject)
    server.once('listening', () => {
      server.off('error', reject)
      resolve()
    })
    start()
  })

/** What a socket is to be: its path, its mode and group, and the setting that says so. */
export interface SocketPlace {
  readonly setting: string
  readonly path: string
  readonly mode: number
  readonly group?: number | undefined
}

/** Makes the folders of a socket that are missing, so that those may pass through whom its mode and group let in. */
const makePassage = async ({ path, mode, group }: SocketPlace): Promise<void> => {
  const first = await makeFolders(dirname(path))
  if (first === undefined) return
  const pass = 0o700 | ((mode & 0o070) === 0 ? 0 : 0o010) | ((mode & 0o007) === 0 ? 0 : 0o001)
  if (pass === 0o700) return
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if (group !== undefined) await chown(folder, -1, group)
    await chmod(folder, pass)
    if (folder === first) return
  }
}

const removeStale = async ({ setting, path }: SocketPlace): Promise<void> => {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (found === undefined) return
  if (!found.isSocket())
    throw refuse('start_failed', {
      problem: `${setting}: ${path} exists and is ${found.isDirectory() ? 'a folder' : 'no socket'}`,
      fix: `Move it away, or write another path in ${setting} of deputy.yaml.`,
    })
  if (await isAnswered(path))
    throw refuse('start_failed', {
      problem: `${setting}: another program answers on ${path}`,
      fix: `Stop the other program (deputy status shows a daemon), or write another path in ${setting} of deputy.yaml.`,
    })
  await unlink(path)
}

/**
 * Has a server listen on a Unix socket. A socket file without a listener is left over from a killed daemon and is replaced.
 * The socket gets its mode last: until then it is private.
 * @throws DeputyError `start_failed` when another program answers there, the path is no socket, or the kernel refuses
 */
export const listenAt = async (server: Server, place: SocketPlace): Promise<void> => {
  const { path, mode, group } = place
  try {
    await makePassage(place)
    await removeStale(place)
    const before = process.umask(0o177)
    try {
      await listening(server, () => {
        server.listen(path)
      })
    } finally {
      process.umask(before)
    }
    if (group !== undefined) await chown(path, -1, group)
    await chmod(path, mode)
  } catch (error) {
    throw listenFailure(error, { setting: place.setting, address: path })
  }
}
