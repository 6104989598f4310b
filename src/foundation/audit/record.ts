import type { StoreWrite } from '#foundation/store'
import type { AUDIT_OUTCOMES, AuditEvent } from './events.ts'

/** What happened, as the audit log and `deputy explain` tell it. Never a secret: tokens appear as keyed fingerprints. */
export interface AuditRecord {
  /** Correlation id of the request; the same in logs, in errors and in traces. */
  readonly id: string
  /** Dotted name, for example `token.exchange`, `grant.refresh`, `connect.consent`, `revocation`, `workload.unknown`. */
  readonly event: AuditEvent
  readonly outcome: (typeof AUDIT_OUTCOMES)[number]
  readonly tenant?: string
  readonly user?: string
  readonly server?: string
  /** The id of the downstream; of a credential for several, their ids with a space between (`namesDownstreams`). */
  readonly downstream?: string
  /** Everything else; JSON values only. Keys are stable names, e.g. `error`, `scopes`, `policies`, `subject`, `story`. */
  readonly detail: Readonly<Record<string, unknown>>
}

export interface AuditLog {
  /**
   * Resolves when the record is durable in every sink, and the writes in the store.
   * @param writes made with the record, or after it: without the record none of them
   * @throws DeputyError `audit_unavailable`, within twice the deadline of a sink
   */
  append(record: AuditRecord, writes?: readonly StoreWrite[]): Promise<void>
}

/** Downstream ids hold no space, so that several fit into the one column by which records are found. */
export const namesDownstreams = (ids: readonly string[]): string => ids.join(' ')

/** The downstreams that a record names. */
export const downstreamsOfRecord = ({ downstream }: { readonly downstream?: string | null }): string[] =>
  downstream === undefined || downstream === null ? [] : downstream.split(' ')
