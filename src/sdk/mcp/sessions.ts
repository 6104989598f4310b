import type { ServerResponse } from 'node:http'

/** A session of a client of revision 2025-11-25 or older. It belongs to the user who began it. */
export interface Session {
  readonly id: string
  readonly owner: string
  close(): Promise<void>
}

/** How long a session without a request and without an open stream is kept (ms). */
const IDLE_TIMEOUT_MS = 3_600_000
/** Sessions at the same time. */
const MAX_SESSIONS = 1000

/** The sessions of a server. Another user finds none, even with the right id. */
export const createSessions = <S extends Session>(now: () => number) => {
  const sessions = new Map<string, { readonly session: S; open: number; seen: number }>()

  const end = (id: string): void => {
    const found = sessions.get(id)
    sessions.delete(id)
    // No request waits for the end of a session, so its errors have no receiver.
    found?.session.close().catch(() => undefined)
  }

  const sweep = (): void => {
    for (const [id, { open, seen }] of sessions) if (open === 0 && now() - seen > IDLE_TIMEOUT_MS) end(id)
  }

  return {
    /** Makes room; false: there are too many sessions, and all are in use. */
    hasRoom(): boolean {
      sweep()
      if (sessions.size < MAX_SESSIONS) return true
      const idlest = [...sessions]
        .filter(([, { open }]) => open === 0)
        .sort(([, one], [, other]) => one.seen - other.seen)[0]
      if (idlest !== undefined) end(idlest[0])
      return idlest !== undefined
    },
    add(session: S): void {
      sessions.set(session.id, { session, open: 0, seen: now() })
    },
    /** The user's own session, in use until the response is closed. */
    use(id: string, owner: string, response: ServerResponse): S | undefined {
      const found = sessions.get(id)
      if (found === undefined || found.session.owner !== owner) return undefined
      found.open += 1
      response.once('close', () => {
        found.open -= 1
        found.seen = now()
      })
      return found.session
    },
    forget(id: string): void {
      sessions.delete(id)
    },
    async close(): Promise<void> {
      const all = [...sessions.values()]
      sessions.clear()
      await Promise.all(all.map(({ session }) => session.close()))
    },
  }
}
