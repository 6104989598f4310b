import type { AuditCheckpoint } from '#foundation/store'
import { FORMAT, linesOf, type ChainName } from './chain.ts'
import { isCount, isHash, isNullOr, isOrdinal, isText, readFields, type Fields } from './fields.ts'
import { isSignatureOf, signatureOf, type Sign, type VerifySignature } from './signature.ts'

/** The first line of a segment. */
export interface SegmentHeader {
  readonly format: typeof FORMAT
  readonly installation: string
  readonly node: string
  /** Segments of a chain are numbered from 1 without gaps. */
  readonly number: number
  /** The number of the first record, and the hash that it follows. */
  readonly first: number
  readonly after: string
  /** When it was begun (ms since the epoch). */
  readonly at: number
}

/** The last line of a sealed segment. It stays when the records are removed, and the chain goes on from `head`. */
export interface SegmentFooter extends SegmentHeader {
  /** The number of the last record, and its hash. */
  readonly last: number
  readonly head: string
  /** The times of the first and the last record (ms since the epoch). */
  readonly from: number
  readonly to: number
  /** The bytes before the footer, and their SHA-256. */
  readonly bytes: number
  readonly digest: string
  /** When it was sealed. */
  readonly sealed: number
  readonly kid: string
  /** base64url. */
  readonly signature: string
}

const headerFields: Fields<SegmentHeader> = {
  format: (value): value is typeof FORMAT => value === FORMAT,
  installation: isText,
  node: isText,
  number: isOrdinal,
  first: isOrdinal,
  after: isHash,
  at: isCount,
}
const footerFields: Fields<SegmentFooter> = {
  ...headerFields,
  last: isOrdinal,
  head: isHash,
  from: isCount,
  to: isCount,
  bytes: isCount,
  digest: isHash,
  sealed: isCount,
  kid: isText,
  signature: isText,
}
const checkpointFields: Fields<AuditCheckpoint> = {
  number: isNullOr(isOrdinal),
  seq: isOrdinal,
  hash: isHash,
  at: isCount,
  kid: isText,
  signature: isText,
}

/** What a footer says, before it is signed. */
export type UnsignedFooter = Omit<SegmentFooter, 'kid' | 'signature'>

/** What a footer's signature covers. */
export const footerBytes = (footer: UnsignedFooter): Uint8Array => {
  const { installation, node, number, first, after, at, last, head, from, to, bytes, digest, sealed } = footer
  return Buffer.from(
    linesOf([
      'deputy audit segment',
      FORMAT,
      installation,
      node,
      number,
      first,
      after,
      at,
      last,
      head,
      from,
      to,
      bytes,
      digest,
      sealed,
    ]),
  )
}

export const signFooter = (unsigned: UnsignedFooter, sign: Sign): SegmentFooter => ({
  ...unsigned,
  ...signatureOf(footerBytes(unsigned), sign),
})

export const isFooterSigned = (footer: SegmentFooter, verify: VerifySignature): boolean =>
  isSignatureOf(footerBytes(footer), footer, verify)

/** The header of the segment that a chain goes on in. */
export const headerOf = (
  { installation, node }: ChainName,
  place: Pick<SegmentHeader, 'number' | 'first' | 'after' | 'at'>,
): SegmentHeader => ({ format: FORMAT, installation, node, ...place })

export const headerLine = (header: SegmentHeader): string => `${JSON.stringify({ segment: header })}\n`
/** The text that was hashed stands in it as it is. */
export const recordLine = ({ hash, body }: { readonly hash: string; readonly body: string }): string =>
  `{"hash":"${hash}","record":${body}}\n`
/** A checkpoint comes directly after the record that it signs. */
export const checkpointLine = ({ number, seq, hash, at, kid, signature }: AuditCheckpoint): string =>
  `${JSON.stringify({ checkpoint: { number, seq, hash, at, kid, signature } })}\n`
export const footerLine = (footer: SegmentFooter): string => `${JSON.stringify({ footer })}\n`

/** A line of a segment. */
export type SegmentLine =
  | { readonly kind: 'header'; readonly header: SegmentHeader }
  | { readonly kind: 'record'; readonly hash: string; readonly body: string }
  | { readonly kind: 'checkpoint'; readonly checkpoint: AuditCheckpoint }
  | { readonly kind: 'footer'; readonly footer: SegmentFooter }

/** `{"hash":"` and 64 digits, then `","record":`; a record's line ends with `}`. */
const RECORD_START = '{"hash":"'
const HASH_END = RECORD_START.length + 64
const BODY_START = '","record":'
/** Where the text of a record begins in its line, and the hash before it. */
export const TEXT_AT = HASH_END + BODY_START.length
export const hashIn = (line: Buffer): string => line.toString('latin1', RECORD_START.length, HASH_END)

/** The third byte of a line says of what kind it is. */
const KINDS = { record: 'h', checkpoint: 'c', footer: 'f' } as const
/** Whether the line begins as one of a kind. */
export const beginsAs = (line: Buffer, kind: keyof typeof KINDS): boolean => line[2] === KINDS[kind].charCodeAt(0)

/** Reads a line that is an object with one field, whose name says what it is. */
const readOther = (line: unknown): SegmentLine | undefined => {
  if (typeof line !== 'object' || line === null) return undefined
  const [[name, value] = [], ...more] = Object.entries(line) as [string, unknown][]
  if (more.length > 0) return undefined
  switch (name) {
    case 'segment': {
      const header = readFields(headerFields, value)
      return header && { kind: 'header', header }
    }
    case 'checkpoint': {
      const checkpoint = readFields(checkpointFields, value)
      return checkpoint && { kind: 'checkpoint', checkpoint }
    }
    case 'footer': {
      const footer = readFields(footerFields, value)
      return footer && { kind: 'footer', footer }
    }
    default:
      return undefined
  }
}

/**
 * Reads a line without its line feed. Of a record, its hash and text are taken out and nothing is parsed: who
 * verifies reads millions.
 * @returns undefined for what is no line of a segment
 */
export const readLine = (line: string): SegmentLine | undefined => {
  if (line.startsWith(RECORD_START)) {
    if (!line.startsWith(BODY_START, HASH_END) || !line.endsWith('}')) return undefined
    const hash = line.slice(RECORD_START.length, HASH_END)
    return { kind: 'record', hash, body: line.slice(HASH_END + BODY_START.length, -1) }
  }
  try {
    return readOther(JSON.parse(line))
  } catch {
    return undefined
  }
}
