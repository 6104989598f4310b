import { open, stat, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { syncFolder } from '#foundation/files'
import { hashOf, type Head } from '../format/chain.ts'
import { recordLine } from '../format/segment.ts'
import type { AuditSink } from './sink.ts'

const NEWLINE = 0x0a
const CHUNK = 65_536

const lineSchema = z.looseObject({ hash: z.string(), record: z.looseObject({ seq: z.int().positive() }) })

/** The last whole line of a file and where it ends. What follows it was being written when a process ended. */
const lastLine = async (file: FileHandle, size: number): Promise<{ text: string | undefined; end: number }> => {
  for (let length = Math.min(CHUNK, size); ; length = Math.min(length * 2, size)) {
    const tail = Buffer.alloc(length)
    await file.read(tail, 0, length, size - length)
    const end = tail.lastIndexOf(NEWLINE)
    const before = end <= 0 ? -1 : tail.lastIndexOf(NEWLINE, end - 1)
    if (length < size && before === -1) continue
    return end === -1
      ? { text: undefined, end: 0 }
      : { text: tail.subarray(before + 1, end).toString(), end: size - length + end + 1 }
  }
}

const headOf = (path: string, text: string): Head => {
  try {
    const { hash, record } = lineSchema.parse(JSON.parse(text))
    // The text that was hashed stands between the first field and the last brace.
    if (hashOf(text.slice(text.indexOf('"record":') + '"record":'.length, -1)) === hash)
      return { seq: record.seq, hash }
  } catch {
    /* told below */
  }
  throw new Error(
    `the last line of ${path} is no record as it was written: it was altered, or something else writes there`,
  )
}

interface Opened {
  readonly file: FileHandle
  size: number
  last: Head | undefined
  torn: boolean
}

const openAnew = async (path: string): Promise<Opened> => {
  const file = await open(path, 'a+', 0o600)
  try {
    const { size } = await file.stat()
    if (size === 0) {
      // A new name in a folder is durable when the folder is.
      await syncFolder(dirname(path))
      return { file, size, last: undefined, torn: false }
    }
    const { text, end } = await lastLine(file, size)
    const last = text === undefined ? undefined : headOf(path, text)
    if (end < size) await file.truncate(end)
    return { file, size: end, last, torn: false }
  } catch (error) {
    await file.close()
    throw error
  }
}

/**
 * A JSON-lines file of `{"hash":…,"record":…}`, mode 0600. Each batch is appended and forced to the disk. What happens
 * to the file under us is noticed at the next batch: one that was moved (log rotation) or deleted is made anew; one that
 * is shorter or longer than what was written to it, or whose end is no record, is refused until it is moved away.
 */
export const createFileSink = (path: string): AuditSink => {
  let held: Opened | undefined

  const reopen = async (): Promise<Opened> => {
    const old = held
    // Forgotten first: if it cannot be opened now, the next batch tries again instead of using a closed file.
    held = undefined
    await old?.file.close()
    held = await openAnew(path)
    return held
  }

  /** The file that the path names now, open, with all that was written to it and nothing else. */
  const current = async (): Promise<Opened> => {
    if (held === undefined) return reopen()
    const [own, named] = await Promise.all([held.file.stat(), stat(path).catch(() => undefined)])
    if (named === undefined || named.ino !== own.ino || named.dev !== own.dev) return reopen()
    if (held.torn) {
      await held.file.truncate(held.size)
      held.torn = false
      return held
    }
    if (own.size < held.size)
      throw new Error(
        `${path} is shorter than what was written to it: records were removed; move it away to begin a new one`,
      )
    if (own.size > held.size)
      throw new Error(
        `${path} is longer than what was written to it: something else writes there; move it away to begin a new one`,
      )
    return held
  }

  return {
    name: `file ${path}`,
    async write(rows) {
      const target = await current()
      const text = Buffer.from(rows.map(recordLine).join(''))
      try {
        await target.file.appendFile(text)
        await target.file.datasync()
      } catch (error) {
        // Half a batch must not stay: the same records come again when the disk has room.
        target.torn = true
        throw error
      }
      target.size += text.length
      const row = rows.at(-1)
      if (row !== undefined) target.last = { seq: row.seq, hash: row.hash }
    },
    async head() {
      return (await current()).last
    },
    async close() {
      const old = held
      held = undefined
      await old?.file.close()
    },
  }
}
