import type { Socket } from 'node:net'

/** The other side closed the connection, or sent a message that is not of the protocol. */
export class BrokenConnection extends Error {
  override readonly name = 'BrokenConnection'
}

/** Bytes that are read ahead of demand, at most. */
const MAX_BUFFERED_BYTES = 65_536

/** Reads bytes from a socket on demand, and leaves the rest to the next reader. */
export interface Reader {
  /** @throws BrokenConnection when the socket closes before so many have come */
  take(bytes: number): Promise<Buffer>
  /** A line without its CRLF. @throws BrokenConnection also when it is longer than `limit` */
  line(limit: number): Promise<string>
  /** Resolves when something has come. @throws BrokenConnection */
  some(): Promise<void>
  /** Stops reading. @returns the bytes that were read and not taken; the socket is paused */
  release(): Buffer
}

export const createReader = (socket: Socket): Reader => {
  let buffer: Buffer = Buffer.alloc(0)
  let closed = false
  let wake = (): void => undefined
  const onData = (chunk: Buffer): void => {
    buffer = buffer.length === 0 ? chunk : Buffer.concat([buffer, chunk])
    if (buffer.length > MAX_BUFFERED_BYTES) socket.pause()
    wake()
  }
  const onEnd = (): void => {
    closed = true
    wake()
  }
  socket.on('data', onData).on('end', onEnd).on('close', onEnd).on('error', onEnd)

  const until = async (isThere: () => boolean): Promise<void> => {
    while (!isThere()) {
      if (closed || socket.destroyed) throw new BrokenConnection('the connection was closed')
      await new Promise<void>((resolve) => {
        wake = resolve
        socket.resume()
      })
    }
  }
  const cut = (bytes: number): Buffer => {
    const taken = buffer.subarray(0, bytes)
    buffer = buffer.subarray(bytes)
    return taken
  }

  return {
    async take(bytes) {
      await until(() => buffer.length >= bytes)
      return cut(bytes)
    },
    async line(limit) {
      await until(() => buffer.indexOf('\r\n') >= 0 || buffer.length > limit)
      const end = buffer.indexOf('\r\n')
      if (end < 0 || end > limit) throw new BrokenConnection('a line is too long')
      return cut(end + 2)
        .subarray(0, end)
        .toString('utf8')
    },
    some: () => until(() => buffer.length > 0),
    release() {
      socket.pause()
      socket.off('data', onData).off('end', onEnd).off('close', onEnd).off('error', onEnd)
      // The next reader has its own handler; until then an error must not end the process.
      socket.on('error', () => undefined)
      return buffer
    },
  }
}
