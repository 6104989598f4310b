import { createHash, type Hash } from 'node:crypto'
import { dirname } from 'node:path'
import type { Head } from '../format/chain.ts'
import {
  footerLine,
  headerLine,
  type SegmentFooter,
  type SegmentHeader,
  type UnsignedFooter,
} from '../format/segment.ts'
import type { FileOperations } from './file-operations.ts'
import { UNFINISHED } from './folder.ts'
import type { Scanned } from './scan.ts'

/** Room is made ahead by so much: a batch that changes no length and no extent of its file is durable sooner. */
const ROOM = 1_048_576
/**
 * Room is written by pieces of this size. The kernel keeps a piece of a file in memory in units as large as it was
 * written at first, and counts and may write the whole unit for each batch that touches it.
 */
const PIECE = Buffer.alloc(8192)
/** What a disk may write again with a batch, because the batch begins in the middle of it. */
const BLOCK = 4096

/** The one segment of a chain that is being written. */
export class OpenSegment {
  readonly header: SegmentHeader
  readonly path: string
  readonly #files: FileOperations
  readonly #file: number
  readonly #identity: string
  readonly #digest: Hash
  #size: number
  #end: number
  #times: { from: number; to: number } | undefined
  /** The bytes between the last block's beginning and the end, as they are on the disk. */
  #tail: Buffer
  /** What a write that failed may have left behind the end, up to this byte. */
  #dirtyUntil = 0

  private constructor(
    files: FileOperations,
    path: string,
    file: number,
    state: Pick<Scanned, 'header' | 'end' | 'size' | 'times' | 'digest'>,
  ) {
    this.#files = files
    this.#file = file
    this.path = path
    this.header = state.header
    this.#identity = files.stateOf(file).identity
    this.#end = state.end
    this.#size = state.size
    this.#times = state.times
    this.#digest = state.digest
    this.#tail = Buffer.alloc(state.end % BLOCK)
    files.read(file, this.#tail, state.end - this.#tail.length)
  }

  /** Makes the file whole or not at all. @throws what the files throw */
  static begin(files: FileOperations, path: string, header: SegmentHeader): OpenSegment {
    const line = Buffer.from(headerLine(header))
    const unfinished = path + UNFINISHED
    const file = files.open(unfinished, 'create')
    try {
      files.write(file, line, 0)
      files.sync(file)
      files.rename(unfinished, path)
      files.syncFolder(dirname(path))
      const digest = createHash('sha256').update(line)
      return new OpenSegment(files, path, file, {
        header,
        end: line.length,
        size: line.length,
        times: undefined,
        digest,
      })
    } catch (error) {
      files.close(file)
      throw error
    }
  }

  /** Goes on with one that was read. */
  static reopen(files: FileOperations, path: string, scanned: Scanned): OpenSegment {
    const file = files.open(path, 'write')
    try {
      return new OpenSegment(files, path, file, scanned)
    } catch (error) {
      files.close(file)
      throw error
    }
  }

  /** The bytes of it that are durable. */
  get end(): number {
    return this.#end
  }
  get isEmpty(): boolean {
    return this.#times === undefined
  }

  /**
   * Writes lines durably: all of them, or an error and none.
   * @param times of the first and the last record; undefined for a checkpoint
   * @throws what the files throw, or an Error where something else changed the file
   */
  append(text: string, times?: { readonly from: number; readonly to: number }): void {
    this.assertOurs()
    this.mend()
    const bytes = Buffer.from(text)
    const end = this.#end + bytes.length
    this.#dirtyUntil = end
    try {
      this.#files.write(this.#file, bytes, this.#end)
      if (end > this.#size) this.#makeRoom(end)
      this.#files.sync(this.#file)
    } catch (error) {
      try {
        this.mend()
      } catch {
        // It is tried again before the next batch.
      }
      throw error
    }
    this.#dirtyUntil = 0
    this.#digest.update(bytes)
    this.#end = end
    const kept = Math.min(end % BLOCK, bytes.length)
    const of = bytes.subarray(bytes.length - kept)
    this.#tail = kept === end % BLOCK ? Buffer.from(of) : Buffer.concat([this.#tail, bytes])
    if (times !== undefined) this.#times = { from: this.#times?.from ?? times.from, to: times.to }
  }

  /**
   * After a write that failed, puts everything from the last block's beginning on as it was: a page that could not be
   * written counts as clean (fsync(2)), so it is written anew.
   * @throws what the files throw
   */
  mend(): void {
    if (this.#dirtyUntil === 0) return
    const { size } = this.#files.stateOf(this.#file)
    this.#size = size
    const from = this.#end - this.#tail.length
    const until = Math.min(size, this.#dirtyUntil)
    if (until > from) {
      const clean = Buffer.alloc(until - from)
      this.#tail.copy(clean)
      this.#files.write(this.#file, clean, from)
    }
    this.#files.sync(this.#file)
    this.#dirtyUntil = 0
  }

  /** @throws Error where the file is not what was written */
  assertOurs(): void {
    const named = this.#files.stateAt(this.path)
    const problem =
      named === undefined
        ? 'is gone: it was moved or removed'
        : named.identity !== this.#identity
          ? 'is another file than the one that is being written'
          : this.#dirtyUntil === 0 && named.size !== this.#size
            ? `has ${named.size} bytes where ${this.#size} were written: something else writes there`
            : undefined
    if (problem !== undefined)
      throw new Error(`${this.path} ${problem}; put it back as it was, or stop the daemon and run deputy audit verify`)
  }

  /** What the footer says when the segment is sealed now. */
  footer(head: Head, sealed: number): UnsignedFooter {
    const { from, to } = this.#times ?? { from: sealed, to: sealed }
    const digest = this.#digest.copy().digest('hex')
    return { ...this.header, last: head.seq, head: head.hash, from, to, bytes: this.#end, digest, sealed }
  }

  /** Ends the segment. @throws what the files throw; it is then as it was before */
  seal(footer: SegmentFooter): void {
    this.append(footerLine(footer))
    try {
      this.#files.truncate(this.#file, this.#end)
      this.#files.sync(this.#file)
    } catch {
      // The room behind a footer means nothing; the next start removes it.
    }
    this.#files.close(this.#file)
  }

  close(): void {
    this.#files.close(this.#file)
  }

  /** Zeros behind the end. Where the disk has no room for them, the batch is all that there is. */
  #makeRoom(end: number): void {
    const size = Math.ceil((end + ROOM / 2) / ROOM) * ROOM
    try {
      for (let at = end; at < size;) {
        const length = Math.min(size - at, PIECE.length - (at % PIECE.length))
        this.#files.write(this.#file, PIECE.subarray(0, length), at)
        at += length
      }
      this.#size = size
    } catch {
      this.#files.truncate(this.#file, end)
      this.#size = end
    }
  }
}
