import { hash } from 'node:crypto'
import type { AuditRow } from '#foundation/store'
import type { AuditRecord } from '../record.ts'

/** The version of the format in docs/audit-format.md. */
export const FORMAT = 1

/** Whose chain it is. */
export interface ChainName {
  /** Names the installation: a keyed text that only the holder of its keys can make. */
  readonly installation: string
  readonly node: string
}

/** Where a chain stands. */
export interface Head {
  readonly seq: number
  /** SHA-256 of the last record, hex; of a chain without records, its genesis. */
  readonly hash: string
}

export const hashOf = (text: string): string => hash('sha256', text)

/** Lines of text, each ended by a line feed: what is hashed or signed is never read as something else. */
export const linesOf = (lines: readonly (string | number)[]): string => lines.map((line) => `${line}\n`).join('')

/** The chain before its first record: bound to the installation and the node, so that no chain passes for another. */
export const emptyChain = ({ installation, node }: ChainName): Head => ({
  seq: 0,
  hash: hashOf(linesOf(['deputy audit genesis', FORMAT, installation, node])),
})

/** How chains began that were written before the format had a number. */
export const EARLIER_GENESIS = hashOf('deputy audit genesis')

/** A record whose detail is JSON text already, and the time of which it tells (ms since the epoch). */
export interface Entry {
  readonly record: Omit<AuditRecord, 'detail'>
  readonly detail: string
  readonly at: number
}

/** Databases keep well-formed Unicode alone: half a surrogate pair would come back as another text than was hashed. */
const wellFormed = (text: string | undefined): string | null => (text === undefined ? null : text.toWellFormed())

/** The fields of a record by which it is found. */
export type Columns = Pick<AuditRow, 'id' | 'at' | 'event' | 'outcome' | 'tenant' | 'user' | 'server' | 'downstream'>

export const columnsOf = ({ record, at }: Pick<Entry, 'record' | 'at'>): Columns => ({
  id: record.id.toWellFormed(),
  at,
  event: record.event,
  outcome: record.outcome,
  tenant: wellFormed(record.tenant),
  user: wellFormed(record.user),
  server: wellFormed(record.server),
  downstream: wellFormed(record.downstream),
})

/** The text of a record but for its place in a chain: what `linkText` completes, also on another thread. */
export const unlinkedText = (columns: Columns, detail: string): string =>
  `${JSON.stringify(columns).slice(1, -1)},"detail":${detail}}`

/**
 * The next link of a chain. Its body is the record as JSON with its fields in a fixed order, the hash of the link
 * before among them; its hash is the SHA-256 of that very text. Changing, removing or moving a link breaks all links
 * after it.
 */
export const linkText = (head: Head, unlinked: string): Head & { readonly body: string } => {
  const seq = head.seq + 1
  const body = `{"seq":${seq},"prev":"${head.hash}",${unlinked}`
  return { seq, hash: hashOf(body), body }
}

/** The place of a record in its chain, as its text begins. */
const PLACE = /^\{"seq":(\d{1,16}),"prev":"([\da-f]{64})",/

/** @returns undefined for what is no text of a record */
export const placeIn = (text: string): { readonly seq: number; readonly prev: string } | undefined => {
  const [, seq, prev] = PLACE.exec(text) ?? []
  return seq === undefined || prev === undefined ? undefined : { seq: Number(seq), prev }
}

/** The next link of a chain, with the fields by which it is found. */
export const link = (head: Head, entry: Entry): AuditRow => {
  const columns = columnsOf(entry)
  return { ...columns, ...linkText(head, unlinkedText(columns, entry.detail)) }
}
