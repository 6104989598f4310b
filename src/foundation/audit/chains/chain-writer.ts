import type { AuditCheckpoint, AuditRow, StoreWrite } from '#foundation/store'
import type { Columns, Entry, Head } from '../format/chain.ts'
import type { Sign } from '../format/signature.ts'
import type { WatchedSink } from '../sinks/watched-sink.ts'

/** A record on its way into a chain, and what it allows. */
export interface ChainEntry extends Entry {
  /** Made in the same transaction, where the chain `joinsWrites`. */
  readonly writes: readonly StoreWrite[]
}

/** A record that has its place. */
export interface Placed extends Columns {
  readonly seq: number
}

/** Records that have their places. */
export interface Appended {
  /** The number of the first of them. */
  readonly first: number
  /** As rows, where they are asked for. */
  readonly rows: readonly AuditRow[]
}

/** What happens beside the chain while it is written. */
export interface ChainEvents {
  /** A record that the log owes itself: it goes with one of the next batches. */
  enqueue(entry: Entry): void
  /** Records that were refused, because they were not confirmed in time, are durable nevertheless. */
  landedLate(records: readonly Placed[]): void
  /** The chain is another one from some record on. */
  doubtFeeds(): void
}

/** Writes the chain of this node: into tables, or into segment files. One call at a time. */
export interface ChainWriter {
  readonly joinsWrites: boolean
  /** The deadline of each call, and how the store does. */
  readonly watched: WatchedSink
  readonly head: Head
  /** What the store's chain ends with: `head`, but where records are gone for good. */
  readonly stored: Head
  /** Records that no checkpoint covers. */
  readonly unsigned: number
  /** The number of the last checkpoint; 0 where there is none. */
  readonly lastCheckpoint: number
  /** Has the next `settle` compare the whole of what is known with what the store has. */
  doubt(): void
  /** Finds out what became of records that were not confirmed. */
  settle(): Promise<void>
  /** @throws DeputyError `audit_unavailable`: the records are in doubt, or not there */
  append(batch: readonly ChainEntry[]): Promise<Appended>
  /** Durable behind the last record when it resolves. */
  addCheckpoint(checkpoint: AuditCheckpoint): Promise<void>
  /** Something else than a record is to be signed soon: see `tend`. */
  readonly isDue: boolean
  /** Signs and writes what is due, behind a checkpoint of the last record. */
  tend(sign: Sign): Promise<void>
  /** Finds out whether the store writes, without a record; undefined where only a record or a checkpoint tells. */
  probe?(): Promise<void>
}
