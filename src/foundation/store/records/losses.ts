/** What a node noticed that the store has lost although it had confirmed it, and what was done about it. */
export interface StoreLoss {
  readonly id: string
  readonly node: string
  /** ms since the epoch. */
  readonly at: number
  /** JSON values, without secrets. */
  readonly detail: Readonly<Record<string, unknown>>
}

export interface LossStore {
  /** One whose id is known already is left as it is. */
  add(loss: StoreLoss): Promise<void>
  /**
   * Those that no person has acknowledged, the oldest first, a thousand at most. A row that was altered and cannot be
   * read is one of them, and
   * says so: it hides no other.
   */
  open(): Promise<StoreLoss[]>
  /**
   * Acknowledges these alone: what was noticed since they were shown stays open. @returns how many of them were open
   */
  acknowledge(ids: readonly string[], by: string, at: number): Promise<number>
}
