import type { Socket } from 'node:net'

/** How long one side may take to read what was left for it when the other had closed (ms). */
const DRAIN_TIMEOUT_MS = 30_000

/**
 * Passes bytes both ways, no faster than either side takes them, until one side closes; then the other one receives the bytes in transit
 * and is closed.
 * @param given bytes that had been read from each side before
 */
export const relay = (
  client: Socket,
  upstream: Socket,
  given: { fromClient: Buffer; fromUpstream: Buffer },
): Promise<void> =>
  new Promise((resolve) => {
    let left = 2
    const closed = (other: Socket) => (): void => {
      // Bytes in transit still reach their reader.
      other.destroySoon()
      other.setTimeout(DRAIN_TIMEOUT_MS, () => {
        other.destroy()
      })
      left -= 1
      if (left === 0) resolve()
    }
    client.once('close', closed(upstream))
    upstream.once('close', closed(client))
    if (client.destroyed) {
      upstream.destroy()
      resolve()
      return
    }
    if (upstream.destroyed) {
      client.destroy()
      resolve()
      return
    }
    if (given.fromClient.length > 0) upstream.write(given.fromClient)
    if (given.fromUpstream.length > 0) client.write(given.fromUpstream)
    client.pipe(upstream)
    upstream.pipe(client)
  })
