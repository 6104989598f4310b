export interface ReplayStore {
  /** Whether the value is remembered at `now`. */
  has(namespace: string, value: string, now: number): Promise<boolean>
  /** Remembers the value within its namespace until `expiresAt`. @returns false if it was there already: a replay. */
  claim(namespace: string, value: string, expiresAt: number): Promise<boolean>
  sweep(now: number): Promise<number>
}

/** A caller that no registered server matches. */
export interface UnknownCaller {
  /** Digest of the facts that tell callers apart. */
  readonly id: string
  readonly facts: Readonly<Record<string, string | number>>
  readonly firstSeen: number
  readonly lastSeen: number
  readonly count: number
}

export interface UnknownCallerStore {
  record(id: string, facts: Readonly<Record<string, string | number>>, at: number): Promise<void>
  list(): Promise<UnknownCaller[]>
  forget(id: string): Promise<boolean>
}
