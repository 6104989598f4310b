import { OWN_TENANT, type RecordName } from '#foundation/crypto'

/** An MCP client that no file names: it has registered itself, or is known by its document. The sealed text counts. */
export interface ClientRecord {
  /** Its `client_id`. */
  readonly id: string
  readonly sealed: Uint8Array
  readonly createdAt: number
  /** When a user last signed in at it; null: never. */
  readonly usedAt: number | null
  readonly expiresAt: number
}

/** What a sealed client is bound to. */
export const clientRecordName = (id: string): RecordName => ({ tenant: OWN_TENANT, kind: 'client', id })

export interface ClientRecordStore {
  /** Undefined when there is none, or it has expired at `now`. */
  find(id: string, now: number): Promise<ClientRecord | undefined>
  /** @returns false when there is one of this id: it is left as it is */
  add(client: Omit<ClientRecord, 'usedAt'>): Promise<boolean>
  /** Replaces the sealed text, if it is still `was`. @returns false otherwise */
  replace(id: string, was: Uint8Array, sealed: Uint8Array): Promise<boolean>
  /** Lets it live until `expiresAt` at least. @param usedAt when a user has signed in at it; null: none has */
  used(id: string, usedAt: number | null, expiresAt: number): Promise<void>
  /** How many live at `now` with which no user has signed in; counts no further than `limit`. */
  unused(limit: number, now: number): Promise<number>
  /** Latest first, those that are used before the others. */
  list(limit: number): Promise<ClientRecord[]>
  remove(id: string): Promise<boolean>
  /** Removes those expired at `now`; returns how many. */
  sweep(now: number): Promise<number>
}
