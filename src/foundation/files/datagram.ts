import { setTimeout as sleep } from 'node:timers/promises'

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

/** Why a datagram was not sent. */
export class DatagramError extends Error {
  override readonly name = 'DatagramError'
  /** No receiver takes a message of this length: it can not be sent later either. */
  readonly isTooLong: boolean

  constructor(message: string, isTooLong = false) {
    super(message)
    this.isTooLong = isTooLong
  }
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

/**
 * `struct sockaddr_un`, whose family is in the order of the machine: every one that Node runs on here is little endian.
 * A path that begins with `@` is a name without a file (unix(7), abstract), which has no zero at its end.
 */
const addressOf = (path: string): Buffer => {
  const bytes = path.startsWith('@') ? Buffer.from(`\0\0\0${path.slice(1)}`) : Buffer.from(`\0\0${path}\0`)
  bytes.writeUInt16LE(AF_UNIX, 0)
  return bytes
}

const failure = (path: string, errno: number): DatagramError =>
  new DatagramError(`${path}: ${PROBLEMS[errno] ?? `errno ${errno}`}`)

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
      throw new DatagramError(`a message of ${bytes.length} bytes is too long for ${to.path}`, true)
    if (errno !== EAGAIN && errno !== ENOBUFS) throw failure(to.path, errno)
    if (signal.aborted) throw new DatagramError(`the queue of ${to.path} is full`)
    await sleep(FULL_PAUSE_MS)
  }
}

/**
 * Sends messages as datagrams to a Unix socket, which Node cannot. The kernel puts each into the queue of the receiver
 * or refuses it (unix(7)): a receiver that dies loses its queue.
 * @throws DatagramError
 */
export const sendDatagrams = async (path: string, messages: readonly string[], signal: AbortSignal): Promise<void> => {
  if (Buffer.byteLength(path) > LONGEST_PATH)
    throw new DatagramError(`${path} is longer than the path of a socket can be`)
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
