import { closeSync, openSync, readSync } from 'node:fs'
import { segmentPath } from '../folder.ts'

/** Files that are kept open at most. */
const MAX_OPEN = 16
/** Read at once where line after line is wanted, */
const WINDOW = 65_536
/** and where one here and one there is. */
const LINE = 4096
const LINE_FEED = 0x0a

/** Reads lines of segments at known places. */
export class SegmentReader {
  readonly #folder: string
  readonly #node: string
  readonly #files = new Map<number, number>()
  #window: { segment: number; start: number; bytes: Buffer } = { segment: 0, start: 0, bytes: Buffer.alloc(0) }

  constructor(folder: string, node: string) {
    this.#folder = folder
    this.#node = node
  }

  /**
   * The line at a place, without its line feed.
   * @param backwards lines before this one are read next
   * @returns undefined where there is none: its segment was removed, or is another one
   */
  line(segment: number, byte: number, backwards = false): Buffer | undefined {
    const kept = this.#lineInWindow(segment, byte)
    if (kept !== undefined) return kept
    const around = this.#isNear(segment, byte) ? WINDOW : LINE
    for (let length = around; ; length *= 4) {
      const start = backwards ? Math.max(0, byte - around) : byte
      const bytes = this.read(segment, start, length + byte - start)
      this.#window = { segment, start, bytes }
      const line = this.#lineInWindow(segment, byte)
      if (line !== undefined || bytes.length < length + byte - start) return line
    }
  }

  /** Bytes of a segment; fewer where it ends, none where it is not there. */
  read(segment: number, from: number, length: number): Buffer {
    const file = this.#open(segment)
    if (file === undefined) return Buffer.alloc(0)
    const bytes = Buffer.allocUnsafe(length)
    let read = 0
    while (read < length) {
      const count = readSync(file, bytes, read, length - read, from + read)
      if (count === 0) break
      read += count
    }
    return bytes.subarray(0, read)
  }

  /** Forgets what was read: the segment that is being written has grown. */
  forget(): void {
    this.#window = { segment: 0, start: 0, bytes: Buffer.alloc(0) }
  }

  close(): void {
    for (const file of this.#files.values()) closeSync(file)
    this.#files.clear()
    this.forget()
  }

  /** Whether a line is close to what was read last. */
  #isNear(segment: number, byte: number): boolean {
    const { start, bytes } = this.#window
    return this.#window.segment === segment && byte > start - LINE && byte < start + bytes.length + LINE
  }

  #lineInWindow(segment: number, byte: number): Buffer | undefined {
    const { start, bytes } = this.#window
    if (this.#window.segment !== segment || byte < start) return undefined
    const end = bytes.indexOf(LINE_FEED, byte - start)
    return end === -1 ? undefined : bytes.subarray(byte - start, end)
  }

  #open(segment: number): number | undefined {
    const kept = this.#files.get(segment)
    if (kept !== undefined) return kept
    if (this.#files.size >= MAX_OPEN) {
      const [oldest] = this.#files
      closeSync(oldest![1])
      this.#files.delete(oldest![0])
    }
    try {
      const file = openSync(segmentPath(this.#folder, this.#node, segment), 'r')
      this.#files.set(segment, file)
      return file
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  }
}
