import { createHash, hash as digestOf, type Hash } from 'node:crypto'
import type { AuditCheckpoint } from '#foundation/store'
import { placeIn, type Head } from '../format/chain.ts'
import { beginsAs, hashIn, readLine, TEXT_AT, type SegmentFooter, type SegmentHeader } from '../format/segment.ts'
import type { FileOperations } from './file-operations.ts'

/** What a batch of records takes in a segment at most: no more than this can be torn. */
export const MAX_BATCH_BYTES = 20_971_520
/** A disk writes at least so much at once (bytes). */
const SECTOR = 512
const CHUNK = 1_048_576
const LINE_FEED = 0x0a
const ZERO = Buffer.alloc(65_536)

/** A line that is not as it was written, and that no power failure explains. */
export interface Damage {
  readonly path: string
  readonly byte: number
  readonly why: string
}

/** What a segment holds, as its file says. */
export interface Scanned {
  readonly header: SegmentHeader
  /** Where the next line goes. */
  readonly end: number
  readonly size: number
  readonly head: Head
  /** The times of the first and the last record (ms since the epoch). */
  readonly times: { readonly from: number; readonly to: number } | undefined
  readonly checkpoint: AuditCheckpoint | undefined
  readonly footer: SegmentFooter | undefined
  /** Of the bytes up to `end`, without the footer. */
  readonly digest: Hash
  readonly damage: readonly Damage[]
  /** A batch that was being written when the power failed, up to this byte. No answer had left for its records. */
  readonly tornUntil: number | undefined
}

/** Its end is not as it was written: where the chain goes on cannot be known. */
export class DamagedEnd extends Error {
  readonly damage: Damage

  constructor(damage: Damage) {
    super(damage.why)
    this.damage = damage
  }
}

const AT = /^\{"seq":\d+,"prev":"[\da-f]{64}","id":"(?:[^"\\]|\\.)*","at":(-?\d+),/
/** Bytes in which place, id and time of a record stand; of one with a long id, the whole text is read. */
const FRONT = 1024

const timeOf = (line: Buffer): number | undefined => {
  const found = AT.exec(line.toString('utf8', TEXT_AT, TEXT_AT + FRONT)) ?? AT.exec(line.toString('utf8', TEXT_AT))
  return found === null ? undefined : Number(found[1])
}

/** Reads one segment line by line, checks its chain, and tells a torn end from a line that was altered. */
class Scan {
  readonly #path: string
  #header: SegmentHeader | undefined
  #head: Head = { seq: 0, hash: '' }
  #first: Buffer | undefined
  #last: Buffer | undefined
  #checkpoint: AuditCheckpoint | undefined
  #footer: SegmentFooter | undefined
  readonly #digest = createHash('sha256')
  readonly #damage: Damage[] = []
  /** The last line could not be read. */
  #endIsDamaged = false
  end = 0

  constructor(path: string) {
    this.#path = path
  }

  add(line: Buffer): void {
    const byte = this.end
    this.end += line.length + 1
    this.#endIsDamaged = false
    if (beginsAs(line, 'record') && line.length > TEXT_AT) this.#record(line, byte)
    else this.#other(line, byte)
  }

  /** What is hashed for the footer. */
  content(bytes: Buffer): void {
    if (this.#footer === undefined) this.#digest.update(bytes)
  }

  get isSealed(): boolean {
    return this.#footer !== undefined
  }

  #record(line: Buffer, byte: number): void {
    const hash = hashIn(line)
    const text = line.subarray(TEXT_AT, line.length - 1)
    const isWhole = digestOf('sha256', text) === hash
    const place = `{"seq":${this.#head.seq + 1},"prev":"${this.#head.hash}",`
    const follows = line.toString('latin1', TEXT_AT, TEXT_AT + place.length) === place
    if (!isWhole) this.#damaged(byte, `record ${this.#head.seq + 1} does not have its hash: it was altered`)
    else if (!follows) this.#damaged(byte, `a record does not follow record ${this.#head.seq}`)
    let seq = this.#head.seq + 1
    if (!follows) {
      const found = placeIn(line.toString('utf8', TEXT_AT, TEXT_AT + 128))
      if (found === undefined) this.#endIsDamaged = true
      else seq = found.seq
    }
    this.#head = { seq, hash }
    this.#first ??= line
    this.#last = line
  }

  #other(line: Buffer, byte: number): void {
    const read = readLine(line.toString('utf8'))
    if (read?.kind === 'header' && byte === 0) {
      this.#header = read.header
      this.#head = { seq: read.header.first - 1, hash: read.header.after }
    } else if (read?.kind === 'checkpoint') {
      this.#checkpoint = read.checkpoint
      if (read.checkpoint.hash !== this.#head.hash)
        this.#damaged(byte, `a checkpoint does not sign the record before it, ${this.#head.seq}`)
    } else if (read?.kind === 'footer') this.#footer = read.footer
    else {
      this.#damaged(byte, 'a line cannot be read: it was altered')
      // One that begins as a checkpoint was no record: the last record is known.
      this.#endIsDamaged = !beginsAs(line, 'checkpoint')
    }
  }

  #damaged(byte: number, why: string): void {
    // The first ones say it all; a file that is nothing but damage has many.
    if (this.#damage.length < 20) this.#damage.push({ path: this.#path, byte, why })
  }

  /** @throws DamagedEnd */
  finish(size: number, tornUntil: number | undefined): Scanned {
    const header = this.#header
    if (header === undefined)
      throw new DamagedEnd({ path: this.#path, byte: 0, why: 'its first line is no header of a segment' })
    if (this.#endIsDamaged) throw new DamagedEnd(this.#damage.at(-1)!)
    const [from, to] = [this.#first, this.#last].map((line) => (line === undefined ? undefined : timeOf(line)))
    return {
      header,
      end: this.end,
      size,
      head: this.#head,
      times: from === undefined || to === undefined ? undefined : { from, to },
      checkpoint: this.#checkpoint,
      footer: this.#footer,
      digest: this.#digest,
      damage: this.#damage,
      tornUntil,
    }
  }
}

/** The first byte from `at` on that is not zero, or the length. */
const skipZeros = (bytes: Buffer, at: number): number => {
  let next = at
  while (bytes.length - next >= ZERO.length && bytes.compare(ZERO, 0, ZERO.length, next, next + ZERO.length) === 0)
    next += ZERO.length
  while (next < bytes.length && bytes[next] === 0) next += 1
  return next
}

/**
 * Whether the bytes are what a power failure leaves of one batch: sectors that were written, and others that are as
 * they were, room. Nothing that was written after the batch can be among them.
 * @param offset where they are in the file
 */
const isTorn = (bytes: Buffer, offset: number): boolean => {
  if (bytes.length > MAX_BATCH_BYTES) return false
  for (let at = bytes.indexOf(0); at !== -1;) {
    const end = skipZeros(bytes, at)
    const startsWell = at === 0 || (offset + at) % SECTOR === 0
    if (!startsWell || (end < bytes.length && (offset + end) % SECTOR !== 0)) return false
    at = bytes.indexOf(0, end)
  }
  // A checkpoint or a footer is written when the records before it are on the disk.
  for (let start = bytes.indexOf(LINE_FEED) + 1; start > 0; start = bytes.indexOf(LINE_FEED, start) + 1) {
    const end = bytes.indexOf(LINE_FEED, start)
    if (end === -1) break
    const line = bytes.subarray(start, end)
    if (!beginsAs(line, 'record') && !line.includes(0) && readLine(line.toString('utf8')) !== undefined) return false
  }
  return true
}

const readAll = (files: FileOperations, file: number, from: number, to: number): Buffer => {
  const bytes = Buffer.allocUnsafe(to - from)
  for (let at = 0; at < bytes.length;) {
    const read = files.read(file, bytes.subarray(at), from + at)
    if (read === 0) return bytes.subarray(0, at)
    at += read
  }
  return bytes
}

interface Place {
  readonly from: number
  readonly size: number
}

/** The last byte that is not zero, and one. Room is read from the end. */
const endOfContent = (files: FileOperations, file: number, { from, size }: Place, piece = CHUNK): number => {
  for (let to = size; to > from;) {
    const start = Math.max(from, to - piece)
    const bytes = readAll(files, file, start, to)
    let last = bytes.length
    while (last > 0 && bytes[last - 1] === 0) last -= 1
    if (last > 0) return start + last
    to = start
  }
  return from
}

/** Gives a scan the whole lines of a piece. @returns the bytes of them, and whether they are followed by others */
const takeLines = (bytes: Buffer, from: number, scan: Scan): { readonly taken: number; readonly goesOn: boolean } => {
  const zero = bytes.indexOf(0)
  let taken = 0
  for (let end = bytes.indexOf(LINE_FEED, from); end !== -1; end = bytes.indexOf(LINE_FEED, taken)) {
    if (zero !== -1 && zero < end) break
    scan.add(bytes.subarray(taken, end))
    if (scan.isSealed) return { taken, goesOn: false }
    taken = end + 1
  }
  return { taken, goesOn: zero === -1 }
}

/** Gives a scan the whole lines of a file, up to the first that holds a zero byte or has no end. */
const readLines = (files: FileOperations, file: number, size: number, scan: Scan): void => {
  let rest: Buffer = Buffer.alloc(0)
  for (let at = 0; at < size;) {
    const chunk = readAll(files, file, at, Math.min(size, at + CHUNK))
    at += chunk.length
    if (chunk.length === 0) return
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    const { taken, goesOn } = takeLines(bytes, rest.length, scan)
    // By large pieces: a call costs as much as a short line.
    scan.content(bytes.subarray(0, taken))
    if (!goesOn) return
    rest = bytes.subarray(taken)
  }
}

/**
 * Reads a segment from its header to its end.
 * @throws DamagedEnd where it is not known where the chain goes on; whatever the files throw
 */
export const scanSegment = (files: FileOperations, path: string): Scanned => {
  const file = files.open(path, 'read')
  try {
    const { size } = files.stateOf(file)
    const scan = new Scan(path)
    readLines(files, file, size, scan)
    const content = endOfContent(files, file, { from: scan.end, size })
    if (content === scan.end) return scan.finish(size, undefined)
    if (content - scan.end <= MAX_BATCH_BYTES && !scan.isSealed) {
      if (isTorn(readAll(files, file, scan.end, content), scan.end)) return scan.finish(size, content)
    }
    throw new DamagedEnd({ path, byte: scan.end, why: 'what is written from here on cannot be read: it was altered' })
  } finally {
    files.close(file)
  }
}

/** The end of a sealed segment is read in one piece: footer and the checkpoint before it. */
const TAIL = 16_384

/** The footer of a sealed segment, and the checkpoint before it; undefined where it has none. */
export const readFooter = (
  files: FileOperations,
  path: string,
):
  | { readonly footer: SegmentFooter; readonly checkpoint: AuditCheckpoint | undefined; readonly size: number }
  | undefined => {
  const file = files.open(path, 'read')
  try {
    const { size } = files.stateOf(file)
    // Room that was not cut off may follow it.
    const content = endOfContent(files, file, { from: 0, size }, TAIL)
    const lines = readAll(files, file, Math.max(0, content - TAIL), content)
      .toString('utf8')
      .split('\n')
    if (lines.pop() !== '') return undefined
    const [last, before] = [lines.pop(), lines.pop()].map((line) => (line === undefined ? undefined : readLine(line)))
    if (last?.kind !== 'footer') return undefined
    return {
      footer: last.footer,
      checkpoint: before?.kind === 'checkpoint' ? before.checkpoint : undefined,
      size: content,
    }
  } finally {
    files.close(file)
  }
}
