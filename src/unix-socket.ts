import { chmod, chown, lstat, mkdir, unlink } from 'node:fs/promises'
import { connect, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { refuse } from './errors.ts'

/** True when somebody answers on the socket: then it is in use and must not be taken away. */
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

/**
 * Has a server listen on a Unix socket. A socket file that nobody answers on is left over from a killed daemon and is replaced.
 * @param options.mode file mode, set before anybody can connect: the folder is private until then
 * @throws DeputyError `config_invalid` when another program answers there, or the path is no socket
 */
export const listenAt = async (
  server: Server,
  options: { readonly path: string; readonly mode: number; readonly group?: number | undefined },
): Promise<void> => {
  const { path } = options
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const found = await lstat(path).catch(() => undefined)
  if (found !== undefined) {
    if (!found.isSocket()) throw refuse('config_invalid', { problem: `${path} exists and is no socket` })
    if (await isAnswered(path)) throw refuse('config_invalid', { problem: `another program answers on ${path}` })
    await unlink(path)
  }
  const before = process.umask(0o177)
  try {
    await listening(server, () => {
      server.listen(path)
    })
  } finally {
    process.umask(before)
  }
  if (options.group !== undefined) await chown(path, -1, options.group)
  await chmod(path, options.mode)
}
