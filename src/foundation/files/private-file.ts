import { randomUUID } from 'node:crypto'
import { link, open, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { refuse } from '#errors'

/** The rights of a file as `chmod` takes them: `0644`. */
export const octal = (mode: number): string => `0${(mode & 0o777).toString(8)}`

/** @throws DeputyError `config_invalid` when the file is missing, no file, or readable by users other than its owner. */
export const assertPrivateFile = async (path: string): Promise<void> => {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw refuse('config_invalid', { problem: `${path} cannot be read (${error.code})` }, error)
  })
  if (!found.isFile()) throw refuse('config_invalid', { problem: `${path} is not a file` })
  if ((found.mode & 0o077) !== 0) {
    throw refuse('config_invalid', {
      problem: `${path} has mode ${octal(found.mode)}, so others can read it; run: chmod 600 ${path}`,
    })
  }
}

/** @throws DeputyError `config_invalid` when the folder is missing or open to users other than its owner. */
export const assertPrivateFolder = async (path: string): Promise<void> => {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw refuse('config_invalid', { problem: `the folder ${path} cannot be opened (${error.code})` }, error)
  })
  if (!found.isDirectory()) throw refuse('config_invalid', { problem: `${path} is not a folder` })
  if ((found.mode & 0o077) !== 0) {
    throw refuse('config_invalid', {
      problem: `${path} has mode ${octal(found.mode)}, so others can look into it; run: chmod 700 ${path}`,
    })
  }
}

const syncFolder = async (path: string): Promise<void> => {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** Writes the file whole or not at all, mode 0600 unless told otherwise, durable when it resolves. */
export const replaceFile = async (path: string, content: string, mode = 0o600): Promise<void> => {
  const next = `${path}.new`
  const file = await open(next, 'w', mode)
  try {
    await file.chmod(mode)
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(next, path)
  await syncFolder(dirname(path))
}

/**
 * Makes the file durably and whole, mode 0600: of several processes that make it at once one succeeds, and no reader sees half of it.
 * @returns false when it exists already; it is then left alone
 */
export const createFile = async (path: string, content: string | Uint8Array): Promise<boolean> => {
  const next = `${path}.${process.pid}-${randomUUID()}.new`
  const file = await open(next, 'wx', 0o600)
  try {
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
  // Unlike rename(2), link(2) does not replace.
  try {
    await link(next, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    await unlink(next)
  }
  await syncFolder(dirname(path))
  return true
}

export { syncFolder }
