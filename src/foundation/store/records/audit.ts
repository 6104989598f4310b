import type { StoreWrite } from './store-write.ts'

/** One row of the audit log. `body` is the record as canonical JSON, `hash` the chain's value after it. */
export interface AuditRow {
  /** Whose chain it is in, where a query was about other chains as well. */
  readonly node?: string
  readonly seq: number
  /** Correlation id. */
  readonly id: string
  readonly at: number
  readonly event: string
  readonly outcome: string
  readonly tenant: string | null
  readonly user: string | null
  readonly server: string | null
  readonly downstream: string | null
  readonly body: string
  /** SHA-256, hex. */
  readonly hash: string
}

/** A signed statement of where a chain stands. */
export interface AuditCheckpoint {
  /** Counts the checkpoints of a chain from 1; null for one that was written before they were counted. */
  readonly number: number | null
  readonly seq: number
  readonly hash: string
  readonly at: number
  readonly kid: string
  readonly signature: string
}

export interface AuditFilter {
  id?: string
  event?: string
  outcome?: string
  tenant?: string
  user?: string
  server?: string
  downstream?: string
  since?: number
  until?: number
  /** Of another node's chain; `*`: of every chain. Default: the own one. */
  node?: string
  /** Not of these events. */
  otherThan?: readonly string[]
  /** Only records whose body holds this text somewhere; letters of either case count as the same. Reads every record. */
  mentions?: string
  /** Only records after this number. */
  afterSeq?: number
}

/** A file of a chain, see docs/audit-format.md. */
export interface SegmentFile {
  readonly path: string
  readonly number: number
  readonly sealed: boolean
  /** Its records were removed after their time: the file is its footer and nothing else. */
  readonly removed: boolean
  /** Bytes that are durable. What follows them is no part of the log: room, or a batch that is being written. */
  readonly bytes: number
}

/** A piece of a chain on its way to another store. */
export interface CopiedAudit {
  readonly node: string
  readonly records: readonly AuditRow[]
  readonly checkpoints: readonly AuditCheckpoint[]
}

export interface AuditStore {
  /** Whether `append` takes writes along into its transaction. */
  readonly joinsWrites: boolean
  /**
   * All rows or none, durably.
   * @param after what the chain has to end with; a store that one process holds need not look
   * @param writes made in the same transaction; only where the store `joinsWrites`
   * @throws DeputyError `conflict` where it ends otherwise: another process wrote, or the store has lost records
   */
  append(
    rows: readonly AuditRow[],
    after?: { readonly seq: number; readonly hash: string },
    writes?: readonly StoreWrite[],
  ): Promise<void>
  /** Makes writes by themselves. */
  apply(writes: readonly StoreWrite[]): Promise<void>
  head(): Promise<{ seq: number; hash: string } | undefined>
  /** The node whose chain this is. */
  readonly node: string
  /** Every node that has a chain. */
  chains(): Promise<string[]>
  /** In order of `seq`; with `last`, the last `limit` of those that match, still in order. */
  query(filter: AuditFilter, page: { limit: number; last?: boolean }): Promise<AuditRow[]>
  addCheckpoint(checkpoint: AuditCheckpoint): Promise<void>
  /** The newest one of the own chain. */
  lastCheckpoint(): Promise<AuditCheckpoint | undefined>
  /**
   * Takes the oldest records of the own chain out, and then the checkpoints: of a store whose records are elsewhere by
   * now.
   * @returns how many records there were to take out
   */
  removeOldest?(count: number): Promise<number>
  /** The newest one of every chain. */
  lastCheckpoints(): Promise<(AuditCheckpoint & { readonly node: string })[]>
  /**
   * The files of a chain in order, where they are its only home; absent where it is kept in tables.
   * @param of default: the own chain's
   */
  segments?(of?: string): Promise<readonly SegmentFile[]>
  /** In order of `seq`. @param of default: the own chain's. @param page default: all of them */
  checkpoints(of?: string, page?: { readonly afterSeq: number; readonly limit: number }): Promise<AuditCheckpoint[]>
}
