/** The files with secrets that the configuration refers to: whether they exist, and only their owner can read them. */
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { octal } from '#foundation/files'
import type { Problem } from './problem.ts'
import type { Located } from './yaml-file.ts'

/**
 * A reference `{ file: PATH }` (`localReferenceSchema`, `secretReferenceSchema`) or the key of a certificate, and where
 * it stands.
 */
export interface PrivateFile {
  /** Absolute. */
  readonly path: string
  readonly file: string
  readonly line: number
}

type Path = readonly PropertyKey[]

const referencesIn = (value: unknown, at: Path = []): { path: string; at: Path }[] => {
  if (typeof value !== 'object' || value === null) return []
  const entries = Object.entries(value)
  const [only] = entries
  if (entries.length === 1 && only?.[0] === 'file' && typeof only[1] === 'string')
    return [{ path: only[1], at: [...at, 'file'] }]
  // `clientTlsSchema`: the key of a certificate.
  if (
    'certificate' in value &&
    'key' in value &&
    typeof value.certificate === 'string' &&
    typeof value.key === 'string'
  )
    return [{ path: value.key, at: [...at, 'key'] }]
  return entries.flatMap(([key, each]) => referencesIn(each, [...at, Array.isArray(value) ? Number(key) : key]))
}

/** Every file with a secret that these values name. Relative paths are relative to the home folder. */
export const privateFilesIn = (home: string, located: Iterable<Located<unknown>>): PrivateFile[] =>
  [...located].flatMap(({ value, file, lineOf }) =>
    referencesIn(value).map(({ path, at }) => ({ path: resolve(home, path), file, line: lineOf(at) })),
  )

const judge = async ({ path, file, line }: PrivateFile): Promise<{ problem?: Problem; warning?: Problem }> => {
  try {
    const found = await stat(path)
    if (!found.isFile())
      return { problem: { file, line, message: `${path} is not a file.`, fix: 'Name a file that holds the secret.' } }
    if ((found.mode & 0o077) === 0) return {}
    return {
      problem: {
        file,
        line,
        message: `${path} has mode ${octal(found.mode)}, so other users can read the secret, and Deputy refuses it.`,
        fix: `Run: chmod 600 ${path}`,
      },
    }
  } catch (error) {
    const { code = 'unknown' } = error as NodeJS.ErrnoException
    return {
      warning: {
        file,
        line,
        message: code === 'ENOENT' ? `There is no file ${path}.` : `${path} cannot be looked at (${code}).`,
        fix: 'Every request that needs this secret fails until the daemon can read the file.',
      },
    }
  }
}

/** What is wrong with the files as they are now. One that is missing is a warning: where files are checked before a merge, secrets are elsewhere. */
export const checkPrivateFiles = async (
  files: readonly PrivateFile[],
): Promise<{ problems: Problem[]; warnings: Problem[] }> => {
  const judged = await Promise.all(files.map(judge))
  return {
    problems: judged.flatMap(({ problem }) => problem ?? []),
    warnings: judged.flatMap(({ warning }) => warning ?? []),
  }
}
