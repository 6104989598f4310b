import { dirname } from 'node:path'
import type { AuditCheckpoint } from '#foundation/store'
import { emptyChain, hashOf, linkText, type ChainName, type Head } from '../format/chain.ts'
import {
  checkpointLine,
  footerLine,
  headerOf,
  recordLine,
  type SegmentFooter,
  type UnsignedFooter,
} from '../format/segment.ts'
import type { FileOperations } from './file-operations.ts'
import { footerPath, readFolder, segmentPath, UNFINISHED, type FoundChain, type SealedSegment } from './folder.ts'
import { OpenSegment } from './open-segment.ts'
import type { Scanned } from './scan.ts'

export interface SegmentRules {
  /** A segment is sealed when it has so many bytes, or is so old (ms). */
  readonly size: number
  readonly age: number
}

export interface WriterOptions {
  readonly files: FileOperations
  readonly folder: string
  readonly chain: ChainName
  readonly rules: SegmentRules
}

/** Where a chain is in its files: up to this byte of this segment it is durable. */
export interface Durable {
  readonly number: number
  readonly bytes: number
}

/** What a start found. */
export interface Recovery {
  /** What is not as it was written, each as a sentence. */
  readonly problems: readonly string[]
  /**
   * A batch that was being written when the power failed was cut off; what could be read of it is kept in this file.
   */
  readonly torn: { readonly segment: string; readonly byte: number; readonly kept: string } | undefined
}

/** Records that become durable together. */
export interface Batch {
  /** The records without their places, each ended by a line feed. */
  readonly text: string
  /** The times of the first and the last record (ms since the epoch). */
  readonly from: number
  readonly to: number
}

/** A record that has its place already. */
export interface Placed {
  readonly seq: number
  readonly body: string
  readonly hash: string
  readonly at: number
}

/** The chain ends otherwise than what was to be added follows. */
export class ChainConflict extends Error {}

/**
 * Writes one chain into segments. One process may do that at a time, and one thread of it. Every method returns when
 * what it wrote is on the disk, and throws when it is not: then nothing of it is part of the chain.
 */
export class SegmentWriter {
  readonly #options: WriterOptions
  readonly recovery: Recovery
  #head: Head
  /** Undefined between two segments, where the next one could not be begun yet. */
  #open: OpenSegment | undefined
  #sealed: SealedSegment[]
  #last: number
  #checkpoint: AuditCheckpoint | undefined

  private constructor(options: WriterOptions, found: FoundChain, recovery: Recovery) {
    this.#options = options
    this.recovery = recovery
    this.#head = found.head ?? emptyChain(options.chain)
    this.#sealed = [...found.sealed]
    this.#last = found.last
    this.#checkpoint = found.checkpoint
    if (found.open !== undefined)
      this.#open = OpenSegment.reopen(options.files, found.open.path, cut(found.open.scanned))
  }

  /**
   * Finds the end of the chain, and cuts off a batch that a power failure has torn.
   * @throws DamagedEnd where it is not known where the chain goes on; whatever the files throw
   */
  static open(options: WriterOptions): SegmentWriter {
    const { files, folder, chain } = options
    files.makeFolder(folder)
    for (const name of files.list(folder)) if (name.endsWith(UNFINISHED)) files.remove(`${folder}/${name}`)
    const found = readFolder(files, folder, chain)
    return new SegmentWriter(options, found, {
      problems: found.problems,
      torn: found.open === undefined ? undefined : cutTorn(files, found.open),
    })
  }

  get head(): Head {
    return this.#head
  }
  get lastCheckpoint(): AuditCheckpoint | undefined {
    return this.#checkpoint
  }
  get sealed(): readonly SealedSegment[] {
    return this.#sealed
  }
  get durable(): Durable {
    const { number, bytes } = this.#sealed.at(-1) ?? { number: 0, bytes: 0 }
    return this.#open === undefined ? { number, bytes } : { number: this.#open.header.number, bytes: this.#open.end }
  }

  /** Gives records their places and writes them. */
  append({ text, from, to }: Batch): void {
    let head = this.#head
    let lines = ''
    for (let start = 0; start < text.length;) {
      const end = text.indexOf('\n', start)
      const placed = linkText(head, text.slice(start, end))
      lines += recordLine(placed)
      head = { seq: placed.seq, hash: placed.hash }
      start = end + 1
    }
    this.#ensureOpen(from).append(lines, { from, to })
    this.#head = head
  }

  /**
   * Writes records that have their places, as they are.
   * @param how.after what the first record of the chain follows, where that is no genesis of today
   * @param how.asIs also where the chain does not hold: it is moved, and the proof of it tells
   * @throws ChainConflict where they do not follow the last one
   */
  appendPlaced(records: readonly Placed[], how: { readonly after?: string; readonly asIs?: boolean } = {}): void {
    const [first, last] = [records[0], records.at(-1)]
    if (first === undefined || last === undefined) return
    if (this.#head.seq === 0 && how.after !== undefined) this.#head = { seq: 0, hash: how.after }
    if (how.asIs !== true) assertLinked(this.#head, records)
    this.#ensureOpen(first.at).append(records.map(recordLine).join(''), { from: first.at, to: last.at })
    this.#head = { seq: last.seq, hash: last.hash }
  }

  /** @throws ChainConflict where it does not sign the last record */
  addCheckpoint(checkpoint: AuditCheckpoint, asIs = false): void {
    if (!asIs && (checkpoint.hash !== this.#head.hash || checkpoint.seq !== this.#head.seq))
      throw new ChainConflict(`the checkpoint does not sign the last record, ${this.#head.seq}`)
    this.#ensureOpen(checkpoint.at).append(checkpointLine(checkpoint))
    this.#checkpoint = checkpoint
  }

  /** Whether the segment should be sealed now. */
  isDue(now: number): boolean {
    const open = this.#open
    const { size, age } = this.#options.rules
    return open !== undefined && !open.isEmpty && (open.end >= size || now - open.header.at >= age)
  }

  /** What is to be signed to seal the segment; undefined for one without records. */
  unsignedFooter(now: number): UnsignedFooter | undefined {
    return this.#open === undefined || this.#open.isEmpty ? undefined : this.#open.footer(this.#head, now)
  }

  /** Seals the segment and begins the next one. @throws ChainConflict where the footer is not the segment's */
  seal(footer: SegmentFooter): void {
    const open = this.#open
    if (open === undefined || footer.number !== open.header.number || footer.bytes !== open.end)
      throw new ChainConflict('the footer is of another segment, or records were added since')
    const { path } = open
    open.seal(footer)
    this.#open = undefined
    this.#sealed.push({ number: footer.number, path, bytes: open.end, removed: false, footer })
    this.#ensureOpen(footer.sealed)
  }

  /** Writes the footers of sealed segments into files of their own, which stay when the records are removed. */
  leaveFooters(numbers: readonly number[]): void {
    const { files, folder, chain } = this.#options
    for (const { footer } of this.#sealed.filter(({ number, removed }) => numbers.includes(number) && !removed)) {
      if (footer === undefined) throw new Error('a segment without a footer cannot be removed')
      const path = footerPath(folder, chain.node, footer.number)
      const file = files.open(path + UNFINISHED, 'create')
      try {
        files.write(file, Buffer.from(footerLine(footer)), 0)
        files.sync(file)
      } finally {
        files.close(file)
      }
      files.rename(path + UNFINISHED, path)
    }
    files.syncFolder(folder)
  }

  /** Removes the records of sealed segments whose footers stand by themselves. */
  remove(numbers: readonly number[]): void {
    const { files, folder, chain } = this.#options
    this.#sealed = this.#sealed.map((segment) => {
      const { number, path, removed } = segment
      if (removed || !numbers.includes(number)) return segment
      const left = files.stateAt(footerPath(folder, chain.node, number))
      if (left === undefined) throw new Error(`segment ${number} has no footer of its own`)
      files.remove(path)
      return { ...segment, path: footerPath(folder, chain.node, number), bytes: left.size, removed: true }
    })
    files.syncFolder(folder)
  }

  /** Whether the disk takes writes, found out without a record. */
  probe(now: number): void {
    const open = this.#ensureOpen(now)
    open.assertOurs()
    open.append('')
  }

  close(): void {
    this.#open?.close()
    this.#open = undefined
  }

  #ensureOpen(at: number): OpenSegment {
    if (this.#open !== undefined) return this.#open
    const { files, folder, chain } = this.#options
    const number = this.#last + 1
    const header = headerOf(chain, { number, first: this.#head.seq + 1, after: this.#head.hash, at })
    this.#open = OpenSegment.begin(files, segmentPath(folder, chain.node, number), header)
    this.#last = number
    return this.#open
  }
}

/** @throws ChainConflict for the first record that does not follow the one before, or has another hash than its text */
const assertLinked = (from: Head, records: readonly Placed[]): void => {
  let head = from
  for (const { body, hash } of records) {
    if (!body.startsWith(`{"seq":${head.seq + 1},"prev":"${head.hash}",`) || hashOf(body) !== hash)
      throw new ChainConflict(`record ${head.seq + 1} does not follow the record before it, or was altered`)
    head = { seq: head.seq + 1, hash }
  }
}

const cut = (scanned: Scanned): Scanned =>
  scanned.tornUntil === undefined ? scanned : { ...scanned, size: scanned.end }

/** Keeps aside what a power failure left of a batch, then cuts it off. */
const cutTorn = (
  files: FileOperations,
  { path, scanned: { end, tornUntil } }: { readonly path: string; readonly scanned: Scanned },
): Recovery['torn'] => {
  if (tornUntil === undefined) return undefined
  const kept = `${path}.torn-${end}`
  const file = files.open(path, 'write')
  try {
    const bytes = Buffer.alloc(tornUntil - end)
    files.read(file, bytes, end)
    const aside = files.open(kept, 'create')
    try {
      files.write(aside, bytes, 0)
      files.sync(aside)
    } finally {
      files.close(aside)
    }
    files.syncFolder(dirname(path))
    files.truncate(file, end)
    files.sync(file)
    return { segment: path, byte: end, kept }
  } finally {
    files.close(file)
  }
}
