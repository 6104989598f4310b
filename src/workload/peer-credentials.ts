import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, readlink, stat } from 'node:fs/promises'
import type { Socket } from 'node:net'
import koffi from 'koffi'
import { LRUCache } from 'lru-cache'
import { refuse } from '../errors.ts'
import type { PeerProcess } from './attestor.ts'

/** What the kernel wrote down when the peer connected (unix(7), SO_PEERCRED). */
export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** When the process with this pid began, in clock ticks since boot; undefined when it was gone already. */
  readonly startedAt: string | undefined
}

// <asm-generic/socket.h>
const SOL_SOCKET = 1
const SO_PEERCRED = 17

const getsockopt = koffi.load(null).func('int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)') as
  (fd: number, level: number, name: number, value: Buffer, length: [number]) => number

/** Node has no public way to a socket's descriptor; the handle has had this field since it exists. */
const descriptorOf = (socket: Socket): number | undefined => (socket as unknown as { _handle?: { fd?: number } })._handle?.fd

/** Field 22 of /proc/PID/stat (proc_pid_stat(5)). The name in field 2 may hold spaces and parentheses, so count from its end. */
const parseStartTime = (text: string): string | undefined => text.slice(text.lastIndexOf(')') + 2).split(' ')[19]

const startTimeOf = async (pid: number): Promise<string | undefined> => {
  try { return parseStartTime(await readFile(`/proc/${pid}/stat`, 'utf8')) } catch { return undefined }
}

/** Reads who connected; undefined when the socket is no Unix socket. Costs about 10 microseconds. */
export const readPeerCredentials = (socket: Socket): Omit<PeerCredentials, 'startedAt'> | undefined => {
  const fd = descriptorOf(socket)
  if (fd === undefined || fd < 0) return undefined
  const value = Buffer.alloc(12)
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, [12]) !== 0) return undefined
  const [pid, uid, gid] = [value.readInt32LE(0), value.readUInt32LE(4), value.readUInt32LE(8)]
  // A peer outside our pid namespace has pid 0: its uid still counts, nothing can be read about its process.
  return { pid, uid, gid }
}

const digestOf = (path: string): Promise<string> => new Promise((resolve, reject) => {
  const hash = createHash('sha256')
  createReadStream(path).on('data', (chunk) => { hash.update(chunk) }).on('end', () => { resolve(hash.digest('hex')) }).on('error', reject)
})

/** Digests of executables that were read before, by all that changes when the file does. */
const digests = new LRUCache<string, Promise<string>>({ max: 500 })

const digestOfRunning = async (pid: number): Promise<string> => {
  // Through /proc the very file that runs is read, also when another has taken its path.
  const path = `/proc/${pid}/exe`
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
  const key = [dev, ino, size, mtimeNs, ctimeNs].join(':')
  let digest = digests.get(key)
  if (digest === undefined) {
    digest = digestOf(path)
    digests.set(key, digest)
    digest.catch(() => { digests.delete(key) })
  }
  return digest
}

/**
 * Who is at the other end of a connection. uid and gid are the kernel's word from the moment of the connection. What
 * is read from the pid afterwards, the executable and its digest, counts only if the pid still is the same process:
 * its start time is read before and after (threat 2).
 * @param wants whether any server is told apart by its executable; nothing more is read otherwise
 * @throws DeputyError `workload_vanished`
 */
export const identifyPeer = async (credentials: PeerCredentials, wants: { exe: boolean; sha256: boolean }): Promise<PeerProcess> => {
  const { pid, uid, gid, startedAt } = credentials
  if (pid === 0 || (!wants.exe && !wants.sha256)) return { pid, uid, gid }
  if (startedAt === undefined || await startTimeOf(pid) !== startedAt) throw refuse('workload_vanished')
  let exe: string | undefined
  let sha256: string | undefined
  try {
    exe = await readlink(`/proc/${pid}/exe`)
    sha256 = wants.sha256 ? await digestOfRunning(pid) : undefined
  } catch { /* another user's process: what cannot be read is not there to match */ }
  if (await startTimeOf(pid) !== startedAt) throw refuse('workload_vanished')
  return { pid, uid, gid, ...(exe === undefined ? {} : { exe }), ...(sha256 === undefined ? {} : { sha256 }) }
}

/**
 * Remembers the peers of connections. `greet` is called when a connection comes in, `of` for each request on it: the
 * look-up is done once a connection.
 */
export const createPeers = (wants: () => { exe: boolean; sha256: boolean }) => {
  const greeted = new WeakMap<Socket, Promise<PeerCredentials> | undefined>()
  const identified = new WeakMap<Socket, { wanted: string; peer: Promise<PeerProcess> }>()
  return {
    greet(socket: Socket): void {
      const read = readPeerCredentials(socket)
      // The start time is asked for at once: the sooner, the less can have happened since the connection.
      greeted.set(socket, read === undefined ? undefined : startTimeOf(read.pid).then((startedAt) => ({ ...read, startedAt })))
    },
    of(socket: Socket): Promise<PeerProcess> | undefined {
      const credentials = greeted.get(socket)
      if (credentials === undefined) return undefined
      const { exe, sha256 } = wants()
      const wanted = `${exe}${sha256}`
      const known = identified.get(socket)
      if (known?.wanted === wanted) return known.peer
      const peer = credentials.then((known) => identifyPeer(known, { exe, sha256 }))
      identified.set(socket, { wanted, peer })
      return peer
    },
  }
}
export type Peers = ReturnType<typeof createPeers>
