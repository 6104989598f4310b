/** Up to where a sink of the audit log has confirmed a chain. */
export interface AuditPosition {
  /** The last record that it has confirmed; 0 before the first. */
  readonly seq: number
  /** SHA-256 of that record, hex; empty before the first. */
  readonly hash: string
  /** What the sink has to remember beside, such as the number of its last segment; empty for most. */
  readonly mark: string
  /** What proves that this installation wrote the position. */
  readonly proof: string
}

/** Of the own node's chain. */
export interface AuditPositionStore {
  /** Undefined for a sink that has none yet. */
  find(sink: string): Promise<AuditPosition | undefined>
  put(sink: string, position: AuditPosition): Promise<void>
}
