import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { makeFoldersSync } from '#foundation/files'

/** What names a file, and how long it is. */
export interface FileState {
  readonly size: number
  /** Of the file itself, whatever it is called. */
  readonly identity: string
}

/**
 * What the writer of segments asks of a file system. A test gives it a disk that loses what was not synced. All of it
 * is synchronous: the writer has a thread of its own, and each step follows the one before. They throw what the system
 * says.
 */
export interface FileOperations {
  exists(path: string): boolean
  /** Makes a folder of mode 0700 that is there when the power fails; one that exists is left as it is. */
  makeFolder(path: string): void
  list(folder: string): string[]
  /** @param mode `create`: a new, empty file of mode 0600 in the place of any other */
  open(path: string, mode: 'create' | 'write' | 'read'): number
  /** @returns how many bytes there were to read */
  read(file: number, into: Uint8Array, position: number): number
  /** Writes all of them. */
  write(file: number, bytes: Uint8Array, position: number): void
  /** Returns when what was written is on the disk, and the length with it. */
  sync(file: number): void
  truncate(file: number, length: number): void
  close(file: number): void
  stateOf(file: number): FileState
  /** Undefined where nothing has this name. */
  stateAt(path: string): FileState | undefined
  rename(from: string, to: string): void
  remove(path: string): void
  /** Returns when new, changed and removed names in the folder are on the disk. */
  syncFolder(path: string): void
}

const FLAGS = { create: constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, write: constants.O_RDWR, read: 0 }

/** Names on one file system: two files have never the same number at a time. */
const stateIn = ({ size, ino, dev }: { size: number; ino: number; dev: number }): FileState => ({
  size,
  identity: `${dev}.${ino}`,
})

const withFolder = (path: string, work: (folder: number) => void): void => {
  const folder = openSync(path, 'r')
  try {
    work(folder)
  } finally {
    closeSync(folder)
  }
}

/** The disk. */
export const diskFiles: FileOperations = {
  exists: existsSync,
  makeFolder(path) {
    makeFoldersSync(path)
    withFolder(path, (folder) => {
      fchmodSync(folder, 0o700)
    })
  },
  list: (folder) => readdirSync(folder),
  open(path, mode) {
    const file = openSync(path, FLAGS[mode], 0o600)
    if (mode === 'create') fchmodSync(file, 0o600)
    return file
  },
  read: (file, into, position) => readSync(file, into, 0, into.byteLength, position),
  write(file, bytes, position) {
    for (let at = 0; at < bytes.byteLength;) {
      const written = writeSync(file, bytes, at, bytes.byteLength - at, position + at)
      if (written === 0) throw new Error('ENOSPC: the disk takes no more')
      at += written
    }
  },
  sync: fdatasyncSync,
  truncate: ftruncateSync,
  close: closeSync,
  stateOf: (file) => stateIn(fstatSync(file)),
  stateAt(path) {
    const found = statSync(path, { throwIfNoEntry: false })
    return found === undefined ? undefined : stateIn(found)
  },
  rename: renameSync,
  remove: unlinkSync,
  syncFolder(path) {
    withFolder(path, fsyncSync)
  },
}
