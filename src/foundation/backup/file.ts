import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { link, lstat, open, readdir, rename, rm, unlink, type FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Random } from '#clock'
import { refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import { syncFolder } from '#foundation/files'
import { BadContent, readContent, writeContent, type Source, type Visitor } from './content.ts'
import { kindIn, MAX_HEADER_BYTES, newFileKey, openHeader, type FileKey, type HeaderProblem } from './header.ts'
import { AlteredChunk, openSealed, SealedWriter } from './sealing.ts'

const fixes: Readonly<Record<HeaderProblem, readonly [problem: string, fix: string]>> = {
  'no backup': [
    'it is not a file that deputy backup has written',
    'Check the name, and take another copy of the file.',
  ],
  'newer format': [
    'a newer Deputy has written it',
    'Install the version of Deputy that has written it, or a newer one.',
  ],
  'wrong key': [
    'the key file is not the one that it was written with, or its first line was altered',
    'Name the key file that was used for this backup.',
  ],
}

const unusable = (file: string, problem: string, fix: string, cause?: unknown) =>
  refuse('backup_unusable', { file, problem, fix }, cause)

/** A backup that was opened: its key is the right one. Nothing of its content was read. */
export interface OpenBackup {
  readonly kind: string
  readonly bytes: number
  /** Reads all of it, in bounded memory. May be called again. @throws DeputyError `backup_unusable`; what the visitor throws */
  read(visitor: Visitor): Promise<void>
  close(): Promise<void>
}

const readerOf = (file: FileHandle, path: string, { kind, key, line }: FileKey, bytes: number): OpenBackup => ({
  kind,
  bytes,
  async read(visitor) {
    const readAt = async (position: number, length: number): Promise<Buffer> => {
      const buffer = Buffer.alloc(length)
      let filled = 0
      while (filled < length) {
        const { bytesRead } = await file.read(buffer, filled, length - filled, position + filled)
        if (bytesRead === 0) break
        filled += bytesRead
      }
      return buffer.subarray(0, filled)
    }
    try {
      await readContent(openSealed(key, readAt, { from: Buffer.byteLength(line), to: bytes }), visitor)
    } catch (error) {
      if (error instanceof AlteredChunk || error instanceof BadContent)
        throw unusable(path, error.message, 'Take another copy of the file: nothing of this one was used.', error)
      throw error
    }
  },
  close: () => file.close(),
})

/** A pipe would wait for a writer, for ever. */
const openAnyKind = (path: string): Promise<FileHandle> => open(path, constants.O_RDONLY | constants.O_NONBLOCK)

const firstLine = async (file: FileHandle): Promise<string | undefined> => {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_HEADER_BYTES), 0, MAX_HEADER_BYTES, 0)
  const end = buffer.subarray(0, bytesRead).indexOf(0x0a)
  return end < 0 ? undefined : buffer.toString('utf8', 0, end + 1)
}

/** @throws DeputyError `backup_unusable` for a file that this key does not open */
export const openBackup = async (path: string, passphrase: Secret): Promise<OpenBackup> => {
  const file = await openAnyKind(path)
  try {
    const found = await file.stat()
    if (!found.isFile()) throw unusable(path, ...fixes['no backup'])
    const header = await openHeader(passphrase, await firstLine(file))
    if ('problem' in header) throw unusable(path, ...fixes[header.problem])
    return readerOf(file, path, header, found.size)
  } catch (error) {
    await file.close()
    throw error
  }
}

/** A file of an interrupted backup is removed by the next one in the folder when it is so old (ms). */
const LEFT_BEHIND_MS = 86_400_000
const UNFINISHED = /^\.deputy-backup-[\da-f-]{36}\.new$/

/** What another user has put into a shared folder stays, and keeps no backup from being made. */
const removeLeftBehind = async (folder: string, now: number): Promise<void> => {
  for (const name of await readdir(folder).catch(() => [])) {
    if (!UNFINISHED.test(name)) continue
    const found = await lstat(join(folder, name)).catch(() => undefined)
    const isOwn = found?.isFile() === true && found.uid === process.geteuid?.()
    if (isOwn && now - found.mtimeMs > LEFT_BEHIND_MS) await unlink(join(folder, name)).catch(() => undefined)
  }
}

const there = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  )

/** Gives the finished file its name. Of two backups of one name the first counts. */
const publish = async (unfinished: string, path: string, replaces: boolean): Promise<void> => {
  if (replaces) await rename(unfinished, path)
  else {
    try {
      // Unlike rename(2), link(2) does not replace.
      await link(unfinished, path)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EEXIST') throw exists(path)
      // File systems without links: FAT, many of FUSE.
      if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(code ?? '')) throw error
      if (await there(path)) throw exists(path)
      await rename(unfinished, path)
    }
    await rm(unfinished, { force: true })
  }
  await syncFolder(dirname(path))
}

/** @throws DeputyError `backup_unusable` for a file of another kind, which is never replaced */
const assertReplaceable = async (path: string, kind: string): Promise<void> => {
  const file = await openAnyKind(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (file === undefined) return
  try {
    if (!(await file.stat()).isFile() || kindIn(await firstLine(file)) !== kind)
      throw unusable(path, 'a file of another kind has this name, and is not replaced', 'Name another file.')
  } finally {
    await file.close()
  }
}

const exists = (path: string) =>
  unusable(path, 'there is a file of this name already', 'Name a file that does not exist: a backup replaces none.')

export interface NewBackup {
  readonly path: string
  readonly passphrase: Secret
  readonly random: Random
  /** ms since the epoch */
  readonly now: number
  /** What it holds. */
  readonly kind: string
  /** Whether a file of this name and kind is replaced when the new one is complete. */
  readonly replaces: boolean
  readonly manifest: object
  readonly sources: AsyncIterable<Source> | Iterable<Source>
  /** Reads the finished file once more, before it gets its name. @throws to give it up */
  readonly verify: (written: OpenBackup) => Promise<void>
}

/**
 * Writes a backup whole or not at all: under another name, mode 0600, durable, read back and verified, then under its own.
 * @returns its size
 */
export const writeBackup = async (backup: NewBackup): Promise<number> => {
  const { path, passphrase, random, replaces } = backup
  if (replaces) await assertReplaceable(path, backup.kind)
  else if (await there(path)) throw exists(path)
  const folder = dirname(path)
  await removeLeftBehind(folder, backup.now)
  const unfinished = join(folder, `.deputy-backup-${randomUUID()}.new`)
  const file = await open(unfinished, 'wx+', 0o600)
  try {
    const key = await newFileKey(passphrase, backup.kind, random)
    let bytes = 0
    const append = async (piece: Uint8Array): Promise<void> => {
      await file.writeFile(piece)
      bytes += piece.length
    }
    await append(Buffer.from(key.line))
    const sealed = new SealedWriter(key.key, append)
    await writeContent((piece) => sealed.write(piece), backup.manifest, backup.sources)
    await sealed.end()
    await file.sync()
    await backup.verify(readerOf(file, basename(path), key, (await file.stat()).size))
    await publish(unfinished, path, replaces)
    return bytes
  } catch (error) {
    if (!(error instanceof BadContent)) throw error
    throw unusable(path, error.message, 'A file was changed while it was read: run the command again.', error)
  } finally {
    await file.close()
    await rm(unfinished, { force: true })
  }
}
