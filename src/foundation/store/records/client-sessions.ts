import type { RecordName } from '#foundation/crypto'

/**
 * What a sign-in at an MCP client gave: the client acts for the user at one server. Its codes, refresh tokens and access
 * tokens descend from it. The sealed text has the same names, and counts; the columns are there to find it.
 */
export interface ClientSession {
  readonly id: string
  readonly tenant: string
  readonly user: string
  readonly client: string
  readonly server: string
  readonly sealed: Uint8Array
  readonly createdAt: number
  readonly usedAt: number
  readonly expiresAt: number
}

/** What a sealed client session is bound to. */
export const clientSessionName = ({ tenant, id }: Pick<ClientSession, 'tenant' | 'id'>): RecordName => ({
  tenant,
  kind: 'client-session',
  id,
})

/** An empty filter names all of them. */
export interface ClientSessionFilter {
  readonly id?: string
  readonly tenant?: string
  readonly user?: string
  readonly client?: string
  readonly server?: string
}

export interface ClientUse {
  readonly client: string
  readonly sessions: number
  readonly firstAt: number
  readonly lastAt: number
}

export interface ClientSessionStore {
  put(session: ClientSession): Promise<void>
  /** Undefined when there is none, or it has expired at `now`. */
  find(id: string, now: number): Promise<ClientSession | undefined>
  /** Latest first. @param limit at most so many */
  list(filter: ClientSessionFilter, limit?: number): Promise<ClientSession[]>
  /** How many sign-ins each client has, when the first began and when one was last used. */
  byClient(): Promise<readonly ClientUse[]>
  /** Notes that the client has used it. @returns false when it is gone */
  touch(id: string, usedAt: number): Promise<boolean>
  /** @returns how many were removed. Their authorization records go with them. */
  remove(filter: ClientSessionFilter): Promise<number>
  /** Removes those expired at `now`; returns how many. */
  sweep(now: number): Promise<number>
}
