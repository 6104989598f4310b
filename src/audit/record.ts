/** What happened, as the audit log and `deputy explain` tell it. Never a secret: tokens appear as keyed fingerprints. */
export interface AuditRecord {
  /** Correlation id of the request; the same in logs, in errors and in traces. */
  readonly id: string
  /** Dotted name, for example `token.exchange`, `grant.refresh`, `connect.consent`, `revocation`, `workload.unknown`. */
  readonly event: string
  readonly outcome: 'issued' | 'refused' | 'done' | 'failed'
  readonly tenant?: string
  readonly user?: string
  readonly server?: string
  readonly downstream?: string
  /** Everything else; JSON values only. Keys are stable names, e.g. `error`, `scopes`, `policies`, `subject`, `story`. */
  readonly detail: Readonly<Record<string, unknown>>
}

export interface AuditLog {
  /** Resolves when the record is durable in every sink. @throws DeputyError `audit_unavailable`, within twice the deadline of a sink */
  append(record: AuditRecord): Promise<void>
}
