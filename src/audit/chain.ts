import { createHash } from 'node:crypto'
import type { AuditRow } from '../store/store.ts'
import type { AuditRecord } from './record.ts'

/** What the first record follows: the hash of nothing that was ever written. */
export const GENESIS = createHash('sha256').update('deputy audit genesis').digest('hex')

/** Where a chain stands. */
export interface Head { readonly seq: number; readonly hash: string }

export const emptyChain: Head = { seq: 0, hash: GENESIS }

export const hashOf = (body: string): string => createHash('sha256').update(body).digest('hex')

/**
 * The next link. Its body is the record as JSON with its fields in a fixed order, the hash of the link before
 * among them; its hash is the SHA-256 of that very text. Whoever changes, removes or moves a link breaks all after it.
 */
export const link = (head: Head, record: AuditRecord, at: number): AuditRow => {
  const seq = head.seq + 1
  const { id, event, outcome, tenant = null, user = null, server = null, downstream = null, detail } = record
  const body = JSON.stringify({ seq, prev: head.hash, id, at, event, outcome, tenant, user, server, downstream, detail })
  return { seq, id, at, event, outcome, tenant, user, server, downstream, body, hash: hashOf(body) }
}
