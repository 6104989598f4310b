import type { AuditRow } from '../store/store.ts'

/** A place that keeps audit records. `write` resolves when they are durable there. */
export interface AuditSink {
  readonly name: string
  write(rows: readonly AuditRow[]): Promise<void>
  close(): Promise<void>
}
