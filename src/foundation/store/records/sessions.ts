/** `deputy login`: the Unix user with this uid stands for a tenant's user. */
export interface Session {
  readonly uid: number
  readonly tenant: string
  readonly user: string
  readonly issuer: string
  readonly groups: readonly string[]
  readonly claims: Readonly<Record<string, unknown>>
  readonly signedInAt: number
  readonly expiresAt: number
  /** All of it, sealed with kind `session`; absent in a row of an earlier version. */
  readonly sealed?: Uint8Array
}

export interface SessionFilter {
  uid?: number
  tenant?: string
  user?: string
}

export interface SessionStore {
  find(uid: number, now: number): Promise<Session | undefined>
  put(session: Session): Promise<void>
  list(): Promise<Session[]>
  remove(filter: SessionFilter): Promise<number>
}
