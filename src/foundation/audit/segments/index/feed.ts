import type { Durable } from '../writer.ts'
import { beginsAs, hashIn, readLine, TEXT_AT } from '../../format/segment.ts'
import { byteOf, FREQUENT_EVENTS, IndexFile, placeOf, segmentOf, type Position, type Words } from './index-file.ts'
import type { SegmentReader } from './segment-reader.ts'

const CHUNK = 1_048_576
/** Records in one transaction at most. */
const AT_ONCE = 20_000
const LINE_FEED = 0x0a
const FRONT = 2048
const DETAIL = ',"detail":'
const PARTS = /^\{"seq":(\d+),"prev":"[\da-f]{64}","id":("(?:[^"\\]|\\.)*"),"at":(-?\d+),([^]*)$/
const MAX_KEPT = 20_000

/** The columns of a record, as its text begins. @returns undefined for a text that is no record */
export const frontOf = (line: Buffer): string | undefined => {
  const front = line.toString('utf8', TEXT_AT, Math.min(line.length, TEXT_AT + FRONT))
  const end = front.indexOf(DETAIL)
  if (end !== -1) return front.slice(0, end)
  const text = line.toString('utf8', TEXT_AT)
  const later = text.indexOf(DETAIL)
  return later === -1 ? undefined : text.slice(0, later)
}

/** Reads on in the segments from where the index has come to. */
export class IndexFeed {
  readonly #reader: SegmentReader
  readonly #progress: () => void
  #index: IndexFile
  readonly #kept = new Map<string, Words>()
  #last: { readonly seq: number; readonly hash: string } = { seq: 0, hash: '' }

  /** @param progress called from time to time while it reads */
  constructor(index: IndexFile, reader: SegmentReader, progress: () => void) {
    this.#index = index
    this.#reader = reader
    this.#progress = progress
  }

  /** Whether the segments are those that the index was made of. */
  matches(): boolean {
    const { segment, seq, hash } = this.#index.position
    if (segment === 0) return true
    const header = this.#reader.line(segment, 0)?.toString('utf8')
    if (header === undefined || header !== this.#index.headerOf(segment)) return false
    if (seq === 0) return true
    const row = this.#index.prepare('select place from records where seq = ?').get(seq)
    const place = Number(row?.['place'] ?? 0)
    const line = this.#reader.line(segmentOf(place), byteOf(place))
    return line !== undefined && hashIn(line) === hash
  }

  /** Takes in everything up to where the chain is durable. */
  catchUp({ number, bytes }: Durable): void {
    this.#reader.forget()
    const at = this.#index.position
    if (at.segment > number || (at.segment === number && at.byte > bytes))
      throw new Error('the index has records that the segments do not have')
    for (let { segment, byte } = this.#index.position; segment < number || byte < bytes;) {
      const before = `${segment} ${byte}`
      this.#index.transaction(() => this.#readOn(number, bytes))
      ;({ segment, byte } = this.#index.position)
      if (before === `${segment} ${byte}`) return
      this.#progress()
    }
  }

  /** Reads so many records as go into one transaction. */
  #readOn(last: number, end: number): Position {
    let { segment, byte } = this.#index.position
    this.#last = this.#index.position
    if (segment === 0) segment = 1
    let count = 0
    while (count < AT_ONCE) {
      const limit = segment < last ? Infinity : end
      const bytes = this.#reader.read(segment, byte, Math.min(CHUNK, limit - byte))
      const stop = bytes.lastIndexOf(LINE_FEED) + 1
      // Room behind a footer that was not cut off has no lines.
      if (stop === 0 && bytes.length === CHUNK && bytes[0] !== 0) {
        byte += this.#long(segment, byte)
        continue
      }
      for (let start = 0; start < stop;) {
        const lineEnd = bytes.indexOf(LINE_FEED, start)
        const line = bytes.subarray(start, lineEnd)
        this.#add(line, segment, byte + start)
        start = lineEnd + 1
        count += 1
      }
      byte += stop
      if (stop > 0 && byte < limit) continue
      if (segment >= last) break
      segment += 1
      byte = 0
    }
    return { segment, byte, seq: this.#last.seq, hash: this.#last.hash }
  }

  /** A line that is longer than what is read at once. @returns its length */
  #long(segment: number, byte: number): number {
    const line = this.#reader.line(segment, byte)
    if (line === undefined) throw new Error(`segment ${segment} ends in the middle of a line`)
    this.#add(line, segment, byte)
    return line.length + 1
  }

  #add(line: Buffer, segment: number, byte: number): void {
    if (!beginsAs(line, 'record')) {
      const read = readLine(line.toString('utf8'))
      if (read?.kind === 'header') this.#index.addSegment(segment, line.toString('utf8'))
      if (read?.kind === 'checkpoint') this.#index.addCheckpoint(read.checkpoint.seq, placeOf(segment, byte))
      return
    }
    const parts = PARTS.exec(frontOf(line) ?? '')
    // What is no record any more is found by nothing; the proof of the chain tells of it.
    if (parts === null) return
    const [, number, id, at, rest] = parts
    const words = this.#wordsOf(rest!)
    if (words === undefined) return
    this.#index.addRecord(
      Number(number),
      placeOf(segment, byte),
      { id: JSON.parse(id!) as string, at: Number(at) },
      words,
    )
    this.#last = { seq: Number(number), hash: hashIn(line) }
  }

  /** The same few combinations of words come again and again. */
  #wordsOf(text: string): Words | undefined {
    const kept = this.#kept.get(text)
    if (kept !== undefined) return kept
    let parsed: Record<string, unknown>
    try {
      parsed = JSON.parse(`{${text}}`) as Record<string, unknown>
    } catch {
      return undefined
    }
    const word = (name: string): number | null =>
      typeof parsed[name] === 'string' ? this.#index.intern(parsed[name]) : null
    const [event, outcome] = [word('event'), word('outcome')]
    if (event === null || outcome === null) return undefined
    const words: Words = {
      isRare: !FREQUENT_EVENTS.has(String(parsed['event'])),
      event,
      outcome,
      tenant: word('tenant'),
      user: word('user'),
      server: word('server'),
      downstream: word('downstream'),
    }
    if (this.#kept.size >= MAX_KEPT) this.#kept.clear()
    this.#kept.set(text, words)
    return words
  }
}
