/** Reads the files of a configuration folder. The answer is always texts and problems, never an exception. */
import { constants } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Problem } from './problem.ts'

/** A file whose bytes are text. */
export interface TextFile {
  readonly name: string
  /** Its path as messages show it. */
  readonly file: string
  readonly text: string
}

/** Larger files were not written by a person (bytes). */
const MAX_BYTES = 4_194_304

const TOO_LARGE = { message: 'It is larger than 4 MiB.', fix: 'Split it into smaller files.' }
const REASONS: Readonly<Record<string, { message: string; fix: string }>> = {
  ENOENT: { message: 'It is a link to a file that does not exist.', fix: 'Remove the link, or create its file.' },
  EISDIR: { message: 'It is a folder, not a file.', fix: 'Give the folder another name.' },
  ELOOP: { message: 'It is a link that leads to itself.', fix: 'Remove the link.' },
  EACCES: {
    message: 'The user that Deputy runs as may not read it.',
    fix: 'Give that user the right to read it, or run the command as that user.',
  },
  EFTYPE: { message: 'It is a pipe, a socket or a device, not a file.', fix: 'Remove it.' },
  EFBIG: TOO_LARGE,
  ENOTDIR: { message: 'It is not a folder.', fix: 'Give the file another name, and create the folder.' },
}

/**
 * The bytes of a file. A pipe would be waited for without end, and a device has no end.
 * @throws errno(3) errors, `EFTYPE`, `EFBIG`
 */
export const readRegular = async (path: string, maxBytes = MAX_BYTES): Promise<Buffer> => {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const found = await file.stat()
    if (!found.isFile())
      throw Object.assign(new Error('it is no file'), { code: found.isDirectory() ? 'EISDIR' : 'EFTYPE' })
    if (found.size > maxBytes) throw Object.assign(new Error(`it is larger than ${maxBytes} bytes`), { code: 'EFBIG' })
    return await file.readFile()
  } finally {
    await file.close()
  }
}

const unreadable = (file: string, error: unknown): Problem => {
  const { code = 'unknown', message } = error as NodeJS.ErrnoException
  const reason = REASONS[code] ?? { message: `It cannot be read: ${message}.`, fix: 'Correct what the message names.' }
  return { file, line: 1, ...reason }
}

/** The line on which bytes stop being UTF-8. */
const brokenLine = (bytes: Buffer): number => {
  const replaced = bytes.toString('utf8')
  const [good] = replaced.split('\ufffd', 1)
  return good!.split('\n').length
}

const decode = (file: string, bytes: Buffer): { text: string } | { problem: Problem } => {
  if (bytes.length > MAX_BYTES) return { problem: { file, line: 1, ...TOO_LARGE } }
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) }
  } catch {
    return {
      problem: {
        file,
        line: brokenLine(bytes),
        message: 'It is not UTF-8 text.',
        fix: 'Save it as UTF-8, for example: iconv -f LATIN1 -t UTF-8.',
      },
    }
  }
}

/** Reads one file. @returns undefined where there is none */
export const readTextFile = async (path: string, file: string, problems: Problem[]): Promise<string | undefined> => {
  let bytes: Buffer
  try {
    bytes = await readRegular(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') problems.push(unreadable(file, error))
    return undefined
  }
  const decoded = decode(file, bytes)
  if ('text' in decoded) return decoded.text
  problems.push(decoded.problem)
  return undefined
}

/**
 * Reads the files of a folder in the order of their names; a folder that does not exist holds nothing. Hidden files are
 * left out: editors put their locks and copies there, as links that lead nowhere.
 * @param options.shownAs the path of the folder as messages show it
 * @param problems gets what cannot be read
 */
export const readTextFiles = async (
  options: { readonly folder: string; readonly shownAs: string; readonly isWanted: (name: string) => boolean },
  problems: Problem[],
): Promise<TextFile[]> => {
  let names: string[]
  try {
    names = await readdir(options.folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') problems.push(unreadable(options.shownAs, error))
    return []
  }
  const files: TextFile[] = []
  for (const name of names.filter((each) => !each.startsWith('.') && options.isWanted(each)).sort()) {
    const file = `${options.shownAs}/${name}`
    try {
      const decoded = decode(file, await readRegular(join(options.folder, name)))
      if ('text' in decoded) files.push({ name, file, text: decoded.text })
      else problems.push(decoded.problem)
    } catch (error) {
      problems.push(unreadable(file, error))
    }
  }
  return files
}
