import type { AuditRow } from '#foundation/store'
import type { Head } from '../format/chain.ts'

/** A place that keeps audit records. `write` resolves when they are durable there. */
export interface AuditSink {
  readonly name: string
  write(rows: readonly AuditRow[]): Promise<void>
  /** The last record that it keeps, so that it gets those that it missed; undefined when it is empty. */
  head?(): Promise<Head | undefined>
  close(): Promise<void>
}
