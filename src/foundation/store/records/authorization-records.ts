import type { RecordName } from '#foundation/crypto'
import type { StoreWrite } from './store-write.ts'

/** A record of the authorization server: an interaction, a code, a refresh token, a pushed request, a device code. */
export interface AuthorizationRecord {
  readonly kind: string
  /** SHA-256 of the value that a client or browser carries, so that the store alone cannot be replayed. */
  readonly id: string
  readonly tenant: string
  /** The client session that it descends from; null before there is one. */
  readonly session: string | null
  /** SHA-256 of what a user types in; of device codes only. */
  readonly userCode: string | null
  /** How often it was exchanged for its like before it: of refresh tokens only. */
  readonly position: number
  readonly sealed: Uint8Array
  readonly expiresAt: number
  /** When it was used; null: not yet. */
  readonly consumedAt: number | null
}

export type NewAuthorizationRecord = Omit<AuthorizationRecord, 'consumedAt'>

/** What a sealed record is bound to. */
export const authorizationRecordName = ({
  tenant,
  kind,
  id,
}: Pick<AuthorizationRecord, 'tenant' | 'kind' | 'id'>): RecordName => ({ tenant, kind: `authorization/${kind}`, id })

export interface AuthorizationRecordStore {
  /** Writes or replaces it. What was consumed stays consumed. */
  put(record: NewAuthorizationRecord): Promise<void>
  /** Undefined when there is none, or it has expired at `now`. */
  find(kind: string, id: string, now: number): Promise<AuthorizationRecord | undefined>
  findByUserCode(kind: string, userCode: string, now: number): Promise<AuthorizationRecord | undefined>
  /** The one of a session that was made out of the one before it. */
  findAt(kind: string, session: string, position: number): Promise<AuthorizationRecord | undefined>
  /** Marks it as used: of many callers at once, one gets true. */
  consume(kind: string, id: string, now: number): Promise<boolean>
  /** `put`, prepared. */
  write(record: NewAuthorizationRecord): StoreWrite
  /**
   * Marks one as used and writes its successor, both or neither: never are two of a chain unused. One that was used already stays so,
   * and its successor as well.
   */
  rotation(used: { readonly id: string; readonly at: number }, successor: NewAuthorizationRecord): StoreWrite
  /** @returns whether it was there: of many callers at once, one gets true */
  remove(kind: string, id: string): Promise<boolean>
  /** Removes those of a client session; returns how many. */
  removeOf(session: string): Promise<number>
  /** Removes those expired at `now`; returns how many. */
  sweep(now: number): Promise<number>
}
