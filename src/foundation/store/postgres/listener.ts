import type { Client } from 'pg'
import type { Subscription } from '../records/revocations.ts'

/** Where changes of the standing are told: https://www.postgresql.org/docs/current/sql-notify.html (when the transaction commits, and not before). */
export const CHANNEL = 'deputy_standing'

/** How long after a lost connection the next one is tried (ms); leases go on meanwhile. */
const RECONNECT_PAUSE_MS = 500

/**
 * A connection that listens. Nothing is sent over it by itself, so that the kernel finds out late that the server has moved
 * away: each renewal of the lease asks over it as well, and a connection that does not answer is given up.
 * @param connect a connection outside of the pool; its queries end within the deadline of the store
 */
export const createListener = async (connect: () => Client, changed: () => void): Promise<Subscription> => {
  let closed = false
  let listening: Client | undefined
  let checking = false
  let retry: NodeJS.Timeout | undefined

  const listen = async (): Promise<void> => {
    const client = connect()
    const lost = (): void => {
      if (listening !== client) return
      listening = undefined
      again()
    }
    client.on('notification', changed)
    client.on('error', lost)
    client.on('end', lost)
    try {
      await client.connect()
      await client.query(`listen ${CHANNEL}`)
      if (closed) {
        await client.end()
        return
      }
      listening = client
      // What was told while no connection listened is found by looking.
      changed()
    } catch {
      client.end().catch(() => undefined)
      again()
    }
  }
  const again = (): void => {
    if (closed) return
    clearTimeout(retry)
    retry = setTimeout(() => {
      if (listening === undefined && !closed) void listen()
    }, RECONNECT_PAUSE_MS)
    retry.unref()
  }

  await listen()
  return {
    check() {
      const client = listening
      if (client === undefined || checking) return
      checking = true
      client
        .query('select 1')
        .catch(() => {
          if (listening !== client) return
          listening = undefined
          // Its end is not waited for: the other side may never answer.
          client.end().catch(() => undefined)
          again()
        })
        .finally(() => {
          checking = false
        })
    },
    async close() {
      closed = true
      clearTimeout(retry)
      await listening?.end()
    },
  }
}
