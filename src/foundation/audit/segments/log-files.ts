import { open, readdir, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'

/** A file of a chain, and how many of its bytes belong to it. */
export interface LogFile {
  /** Without its folder. */
  readonly name: string
  readonly path: string
  readonly bytes: number
}

const CHUNK = 1_048_576
const LINE_FEED = 0x0a
const NAME = /^([\w.-]+-\d{10})\.(jsonl|footer)$/

/** The bytes of a file up to a place. */
export async function* bytesOf(file: FileHandle, upTo: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < upTo;) {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK, upTo - at))
    const { bytesRead } = await file.read(chunk, 0, chunk.length, at)
    if (bytesRead === 0) return
    at += bytesRead
    yield chunk.subarray(0, bytesRead)
  }
}

/** Where the whole lines of a file end: before room that was made ahead, and before a line that was not finished. */
const endOfLines = async (path: string): Promise<number> => {
  const file = await open(path, 'r')
  try {
    let at = 0
    let end = 0
    for await (const chunk of bytesOf(file, Number.MAX_SAFE_INTEGER)) {
      const room = chunk.indexOf(0)
      const feed = (room === -1 ? chunk : chunk.subarray(0, room)).lastIndexOf(LINE_FEED)
      if (feed !== -1) end = at + feed + 1
      if (room !== -1) break
      at += chunk.length
    }
    return end
  } finally {
    await file.close()
  }
}

/**
 * The files of the chains in a folder, in order, where no daemon says how far they are durable. Where a segment and its footer are
 * both there, a removal was not finished: the segment counts.
 */
export const logFilesIn = async (folder: string): Promise<LogFile[]> => {
  const names = new Map<string, string>()
  for (const name of (await readdir(folder)).sort()) {
    const [, stem, kind] = NAME.exec(name) ?? []
    if (stem !== undefined && (kind === 'jsonl' || !names.has(stem))) names.set(stem, name)
  }
  return Promise.all(
    [...names.values()].map(async (name) => {
      const path = join(folder, name)
      return { name, path, bytes: await endOfLines(path) }
    }),
  )
}
