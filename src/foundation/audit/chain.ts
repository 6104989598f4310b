import { hash } from 'node:crypto'
import type { AuditCheckpoint, AuditRow } from '#foundation/store'
import type { AuditRecord } from './record.ts'

/** What the first record follows: the hash of nothing that was ever written. */
export const GENESIS = hash('sha256', 'deputy audit genesis')

/** Where a chain stands. */
export interface Head {
  readonly seq: number
  readonly hash: string
}

export const emptyChain: Head = { seq: 0, hash: GENESIS }

export const hashOf = (body: string): string => hash('sha256', body)

/** A record whose detail is JSON text already, and the time of which it tells (ms since the epoch). */
export interface Entry {
  readonly record: Omit<AuditRecord, 'detail'>
  readonly detail: string
  readonly at: number
}

/** Databases keep well-formed Unicode alone: half a surrogate pair would come back as another text than was hashed. */
const wellFormed = (text: string | undefined): string | null => (text === undefined ? null : text.toWellFormed())

/**
 * The next link. Its body is the record as JSON with its fields in a fixed order, the hash of the link before
 * among them; its hash is the SHA-256 of that very text. Changing, removing or moving a link breaks all links after it.
 */
export const link = (head: Head, { record, detail, at }: Entry): AuditRow => {
  const seq = head.seq + 1
  const columns = {
    id: record.id.toWellFormed(),
    at,
    event: record.event,
    outcome: record.outcome,
    tenant: wellFormed(record.tenant),
    user: wellFormed(record.user),
    server: wellFormed(record.server),
    downstream: wellFormed(record.downstream),
  }
  const body = `${JSON.stringify({ seq, prev: head.hash, ...columns }).slice(0, -1)},"detail":${detail}}`
  return { seq, ...columns, body, hash: hashOf(body) }
}

/** What a checkpoint's signature covers. */
export const checkpointBytes = ({ seq, hash, at }: Pick<AuditCheckpoint, 'seq' | 'hash' | 'at'>): Uint8Array =>
  Buffer.from(JSON.stringify(['deputy audit checkpoint', seq, hash, at]))
