import type { AuditRow } from '#foundation/store'
import type { Head } from '../format/chain.ts'

/** A place that keeps audit records. `write` resolves when they are durable there. */
export interface AuditSink {
  readonly name: string
  write(rows: readonly AuditRow[]): Promise<void>
  /** ms in which it must answer, where that is not as for the others. */
  readonly deadline?: number
  /**
   * The last record that it keeps, so that it gets those that it missed, and seq 0 before the first; undefined: none,
   * and it begins now.
   */
  head?(): Promise<Head | undefined>
  close(): Promise<void>
}
