import { open, stat, type FileHandle } from 'node:fs/promises'
import type { AuditSink } from './sink.ts'

/**
 * A JSON-lines file. Each batch is appended and forced to the disk. A file that was deleted, replaced or cut short
 * under us is noticed at the next batch: a moved one (log rotation) is made anew, a shortened one is refused, because
 * records are gone from it.
 */
export const createFileSink = (path: string): AuditSink => {
  let file: FileHandle | undefined
  let expectedSize = 0

  const reopen = async (): Promise<FileHandle> => {
    const old = file
    // Forgotten first: if it cannot be opened now, the next batch tries again instead of using a closed file.
    file = undefined
    await old?.close()
    file = await open(path, 'a', 0o600)
    expectedSize = (await file.stat()).size
    return file
  }

  /** The file that the path names now, open. */
  const current = async (): Promise<FileHandle> => {
    if (file === undefined) return reopen()
    const [held, named] = await Promise.all([file.stat(), stat(path).catch(() => undefined)])
    if (named === undefined || named.ino !== held.ino || named.dev !== held.dev) return reopen()
    if (held.size < expectedSize) throw new Error(`${path} is shorter than what was written to it`)
    return file
  }

  return {
    name: `file ${path}`,
    async write(rows) {
      const target = await current()
      const before = expectedSize
      const text = Buffer.from(rows.map(({ body, hash }) => `{"hash":"${hash}","record":${body}}\n`).join(''))
      try {
        await target.appendFile(text)
        await target.datasync()
        expectedSize = before + text.length
      } catch (error) {
        // Half a batch must not stay: the same records come again when the disk has room.
        await target.truncate(before).catch(() => undefined)
        throw error
      }
    },
    async close() { await file?.close(); file = undefined },
  }
}
