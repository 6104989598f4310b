/**
 * The hash-chained log. The flows append records; a record is durable in every sink before a credential leaves.
 * `deputy explain` and `deputy audit verify` read it. A node has a chain of its own.
 */
export type { LostRecords } from './continuity.ts'
export { AUDIT_EVENTS, AUDIT_OUTCOMES, type AuditEvent } from './events.ts'
export { explain, type RecordView, recordViewSchema } from './explain.ts'
export { createFileSink } from './sinks/file-sink.ts'
export { HeadKeeper } from './heads/head-keeper.ts'
export { DurableAuditLog } from './log.ts'
export { type AuditLog, type AuditRecord, downstreamsOfRecord, namesDownstreams } from './record.ts'
export { type Verification, verifyChains } from './verify/verify.ts'
