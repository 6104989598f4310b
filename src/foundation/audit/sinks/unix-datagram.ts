import { setTimeout as sleep } from 'node:timers/promises'
import type { AuditRow } from '#foundation/store'
import { ALL_CONFIRMED, DeliveryError, type Delivery } from './delivery.ts'

// <bits/socket.h>, <asm-generic/errno.h>
const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_NONBLOCK = 0x800
const SOCK_CLOEXEC = 0x8_0000
const MSG_NOSIGNAL = 0x4000
const ENOENT = 2
const EAGAIN = 11
const EACCES = 13
const EMSGSIZE = 90
const ENOBUFS = 105
const ECONNREFUSED = 111

/** unix(7): 108 bytes with the zero at the end. */
const LONGEST_PATH = 107

/** How long a full queue of the receiver is left alone (ms). */
const FULL_PAUSE_MS = 10

const PROBLEMS: Readonly<Record<number, string>> = {
  [ENOENT]: 'there is no such socket',
  [EACCES]: 'the user of the daemon may not write to it',
  [ECONNREFUSED]: 'no program listens at it',
}

/** Loaded where datagrams are sent: it opens the C library. */
const loadCalls = async () => {
  const { default: koffi } = await import('koffi')
  const libc = koffi.load(null)
  return {
    errno: () => koffi.errno(),
    open: libc.func('int socket(int domain, int type, int protocol)') as (...given: number[]) => number,
    connect: libc.func('int connect(int fd, const uint8_t *address, uint32_t length)') as (
      fd: number,
      address: Buffer,
      length: number,
    ) => number,
    send: libc.func('long send(int fd, const uint8_t *bytes, size_t length, int flags)') as (
      fd: number,
      bytes: Buffer,
      length: number,
      flags: number,
    ) => number,
    close: libc.func('int close(int fd)') as (fd: number) => number,
  }
}
type Calls = Awaited<ReturnType<typeof loadCalls>>

let loaded: Promise<Calls> | undefined

/** `struct sockaddr_un`, whose family is in the order of the machine: every one that Node runs on here is little endian. */
const addressOf = (path: string): Buffer => {
  const bytes = Buffer.from(`\0\0${path}\0`)
  bytes.writeUInt16LE(AF_UNIX, 0)
  return bytes
}

const failure = (path: string, errno: number): DeliveryError =>
  new DeliveryError(`${path}: ${PROBLEMS[errno] ?? `errno ${errno}`}`)

/** One message. A queue that is full is waited for. */
const sendOne = async (
  calls: Calls,
  to: { fd: number; path: string },
  bytes: Buffer,
  signal: AbortSignal,
): Promise<void> => {
  while (calls.send(to.fd, bytes, bytes.length, MSG_NOSIGNAL) < 0) {
    const errno = calls.errno()
    if (errno === EMSGSIZE)
      throw new DeliveryError(`a message of ${bytes.length} bytes is too long for ${to.path}`, { refusesContent: true })
    if (errno !== EAGAIN && errno !== ENOBUFS) throw failure(to.path, errno)
    if (signal.aborted) throw new DeliveryError(`the queue of ${to.path} is full`)
    await sleep(FULL_PAUSE_MS)
  }
}

const sendAll = async (path: string, messages: readonly string[], signal: AbortSignal): Promise<void> => {
  if (Buffer.byteLength(path) > LONGEST_PATH)
    throw new DeliveryError(`${path} is longer than the path of a socket can be`)
  const calls = await (loaded ??= loadCalls())
  const fd = calls.open(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
  if (fd < 0) throw failure(path, calls.errno())
  try {
    const address = addressOf(path)
    if (calls.connect(fd, address, address.length) !== 0) throw failure(path, calls.errno())
    for (const message of messages) await sendOne(calls, { fd, path }, Buffer.from(message), signal)
  } finally {
    calls.close(fd)
  }
}

/**
 * Messages of RFC 5424 as datagrams to a Unix socket such as /dev/log, which Node cannot send. The kernel puts them into the
 * queue of the receiver or refuses them (unix(7)): that is the confirmation, and a receiver that dies loses its queue.
 */
export const createUnixDatagrams = (
  of: Pick<Delivery, 'name' | 'limits'>,
  path: string,
  message: (row: AuditRow) => string,
): Delivery => ({
  ...of,
  async send(rows, signal) {
    await sendAll(path, rows.map(message), signal)
    return ALL_CONFIRMED
  },
  close: () => Promise.resolve(),
})
