/** A flow through the browser that has begun: a connection attempt or a sign-in. */
export interface Attempt {
  /** SHA-256 of the value that the browser carries, so that the store alone cannot be replayed. */
  readonly id: string
  readonly kind: string
  readonly tenant: string
  /** Sealed with kind `attempt`. */
  readonly sealed: Uint8Array
  readonly expiresAt: number
}

export interface AttemptStore {
  put(attempt: Attempt): Promise<void>
  /** Reads without ending it; undefined when there is none of this kind or it has expired at `now`. */
  find(kind: string, id: string, now: number): Promise<Attempt | undefined>
  /** Takes it away: at most one caller ever gets it. The kind is part of the key (typed keyspaces). */
  take(kind: string, id: string, now: number): Promise<Attempt | undefined>
  /** Removes those expired at `now`; returns how many. */
  sweep(now: number): Promise<number>
}
