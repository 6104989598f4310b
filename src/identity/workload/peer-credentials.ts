import { closeSync, readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import koffi from 'koffi'
import { refuse } from '#errors'
import type { PeerProcess } from './caller-evidence.ts'
import { readExecutable } from './executable.ts'
import { parseStat } from './process-table.ts'

/** What the kernel wrote down when the peer connected (unix(7), SO_PEERCRED). */
export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

// <asm-generic/socket.h>, <asm-generic/errno.h>
const SOL_SOCKET = 1
const SO_PEERCRED = 17
const SO_PEERPIDFD = 77
const ENOPROTOOPT = 92
/** The uid that the kernel gives where a socket has no credentials, such as a TCP socket. */
const NO_CREDENTIALS = 0xffff_ffff

const getsockopt = koffi
  .load(null)
  .func('int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)') as (
  ...given: [fd: number, level: number, name: number, value: Buffer, length: [number]]
) => number

/** Node has no public way to a socket's descriptor; the handle has had this field since it exists. */
const descriptorOf = (socket: Socket): number | undefined =>
  (socket as unknown as { _handle?: { fd?: number } })._handle?.fd

/** Field 22 of /proc/PID/stat (proc_pid_stat(5)). */
export const parseStartTime = (text: string): string | undefined => parseStat(text)[19]

// Synchronous on purpose: /proc is memory, and each turn of the event loop is time in which a process can end.
const startTimeOf = (pid: number): string | undefined => {
  try {
    return parseStartTime(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return undefined
  }
}

/** Reads the credentials of the process that connected; undefined when the socket is no Unix socket. Costs a few microseconds. */
export const readPeerCredentials = (socket: Socket): PeerCredentials | undefined => {
  const fd = descriptorOf(socket)
  if (fd === undefined || fd < 0) return undefined
  const value = Buffer.alloc(12)
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, [12]) !== 0) return undefined
  const [pid, uid, gid] = [value.readInt32LE(0), value.readUInt32LE(4), value.readUInt32LE(8)]
  if (uid === NO_CREDENTIALS) return undefined
  // A peer outside our pid namespace has pid 0: its uid still counts, nothing can be read about its process.
  return { pid, uid, gid }
}

/** A descriptor of the very process that connected (Linux 6.5), 'unknown' where the kernel has none, 'gone' when the process ended. */
const openPeerProcess = (socket: Socket): number | 'unknown' | 'gone' => {
  const value = Buffer.alloc(4)
  if (getsockopt(descriptorOf(socket)!, SOL_SOCKET, SO_PEERPIDFD, value, [4]) === 0) return value.readInt32LE(0)
  return koffi.errno() === ENOPROTOOPT ? 'unknown' : 'gone'
}

/** Whether a process descriptor still stands for a running process: its Pid is -1 once that has ended (pidfd_open(2)). */
const isAlive = (descriptor: number, pid: number): boolean => {
  try {
    return new RegExp(`^Pid:\\s*${pid}$`, 'm').test(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))
  } catch {
    return false
  }
}

/** The process runs, and /proc does not show it (`hidepid`, systemd's ProtectProc): nothing more can be read about it. */
const HIDDEN = 'hidden'

/**
 * When the process that connected began, in clock ticks since boot: together with its pid that names one process for
 * good. Undefined when it has ended, also when another process has its pid by now: the descriptor still is of the
 * first one, and says after the reading that it was alive.
 */
const startOfPeer = (socket: Socket, pid: number): string | undefined => {
  if (pid === 0) return undefined
  const descriptor = openPeerProcess(socket)
  if (descriptor === 'gone') return undefined
  if (descriptor === 'unknown') return startTimeOf(pid)
  try {
    const startedAt = startTimeOf(pid)
    return isAlive(descriptor, pid) ? (startedAt ?? HIDDEN) : undefined
  } finally {
    closeSync(descriptor)
  }
}

/** What servers' selectors need to know of a process. */
export interface PeerWants {
  readonly exe: boolean
  readonly sha256: boolean
}

/**
 * Identifies the process at the other end of a connection. uid and gid come from the kernel, as of the moment of the
 * connection. The executable and its digest are read by pid afterwards, and count only if the pid still is the same process:
 * its start time is read before and after (threat 2). Programs of one user can hand each other open connections, so
 * executable and digest tell a user's programs apart; the border between users is the uid.
 * @param wants the facts that a selector of some server needs; nothing else is read
 * @throws DeputyError `workload_vanished`
 */
export const identifyPeer = async (peer: PeerProcess, wants: PeerWants): Promise<PeerProcess> => {
  const { pid, startedAt } = peer
  if (pid === 0 || startedAt === HIDDEN || (!wants.exe && !wants.sha256)) return peer
  if (startedAt === undefined || startTimeOf(pid) !== startedAt) throw refuse('workload_vanished')
  const executable = await readExecutable(pid, wants)
  if (startTimeOf(pid) !== startedAt) throw refuse('workload_vanished')
  return { ...peer, ...executable }
}

/**
 * Remembers the peers of connections. `capturePeer` is called when a connection comes in, `of` for each request on it: the
 * look-up runs once a connection, and again only when a reload makes selectors need more.
 */
export const createPeers = (wants: () => PeerWants) => {
  const captured = new WeakMap<Socket, PeerProcess>()
  const identified = new WeakMap<Socket, { wanted: PeerWants; peer: Promise<PeerProcess> }>()
  return {
    capturePeer(socket: Socket): void {
      const read = readPeerCredentials(socket)
      if (read === undefined) return
      const startedAt = startOfPeer(socket, read.pid)
      captured.set(socket, { ...read, ...(startedAt === undefined ? {} : { startedAt }) })
    },
    of(socket: Socket): Promise<PeerProcess> | undefined {
      const peer = captured.get(socket)
      if (peer === undefined) return undefined
      const wanted = wants()
      const known = identified.get(socket)
      if (known?.wanted.exe === wanted.exe && known.wanted.sha256 === wanted.sha256) return known.peer
      const looked = identifyPeer(peer, wanted)
      identified.set(socket, { wanted, peer: looked })
      return looked
    },
  }
}
export type Peers = ReturnType<typeof createPeers>
