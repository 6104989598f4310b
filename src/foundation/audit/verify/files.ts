import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import type { SegmentFile } from '#foundation/store'
import { beginsAs, readLine } from '../format/segment.ts'
import { bytesOf } from '../segments/log-files.ts'
import type { ChainWalk } from './walk.ts'

/** A file of a chain, and how much of it is durable. */
type Place = Pick<SegmentFile, 'path' | 'bytes'>

const LINE_FEED = 0x0a

/** Takes the lines of a chain's files. */
export type LineTaker = Pick<ChainWalk, 'add' | 'addFooter' | 'fault'>

/** Gives the lines of a file to a walk. @returns false where the chain does not hold */
export const walkBytes = async (walk: LineTaker, path: string, chunks: AsyncIterable<Buffer>): Promise<boolean> => {
  const digest = createHash('sha256')
  let before = 0
  let rest: Buffer = Buffer.alloc(0)
  const addLine = (line: Buffer): boolean => {
    // Bytes that are no UTF-8 would be read as the character that stands for them, which a record may hold.
    const read = isUtf8(line) ? readLine(line.toString('utf8')) : undefined
    if (read === undefined) return walk.fault(`a line of ${path} at byte ${before} cannot be read: it was altered`)
    // A footer by itself is what stays of a segment whose records were removed.
    const holds =
      read.kind === 'footer' && before > 0
        ? walk.addFooter(read.footer, { bytes: before, digest: digest.copy().digest('hex') })
        : walk.add(read)
    before += line.length + 1
    return holds
  }
  for await (const chunk of chunks) {
    const known = rest.length
    const data = known === 0 ? chunk : Buffer.concat([rest, chunk])
    let start = 0
    let hashed = 0
    for (let end = data.indexOf(LINE_FEED, known); end !== -1; end = data.indexOf(LINE_FEED, start)) {
      const line = data.subarray(start, end)
      if (beginsAs(line, 'footer')) {
        digest.update(data.subarray(hashed, start))
        hashed = start
      }
      if (!addLine(line)) return false
      start = end + 1
    }
    digest.update(data.subarray(hashed, start))
    rest = data.subarray(start)
  }
  return rest.length === 0 || walk.fault(`${path} ends in the middle of a line`)
}

/** Gives the lines of a file to a walk. @returns false where the chain does not hold */
const walkFile = async (walk: ChainWalk, { path, bytes }: Place): Promise<boolean> => {
  const file = await open(path, 'r')
  let isShort = false
  async function* chunks(): AsyncGenerator<Buffer> {
    let at = 0
    for await (const chunk of bytesOf(file, bytes)) {
      at += chunk.length
      yield chunk
    }
    isShort = at < bytes
    if (isShort) walk.fault(`${path} is shorter than what was written to it`)
  }
  try {
    const holds = await walkBytes(walk, path, chunks())
    return holds && !isShort
  } finally {
    await file.close()
  }
}

/** Gives a chain that is kept as segment files to a walk. */
export const walkFiles = async (walk: ChainWalk, files: readonly Place[]): Promise<void> => {
  for (const file of files) if (!(await walkFile(walk, file))) return
}
