import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { refuse } from '#errors'
import { assertPrivateFile } from './private-file.ts'

/** Files with the certificates of a connection, as settings name them. */
export interface TlsFiles {
  readonly ca?: string | undefined
  readonly certificate?: string | undefined
  readonly key?: string | undefined
}

/** What is in them (PEM), under the names of `node:tls`. */
export interface TlsMaterial {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | undefined
}

const textOf = async (path: string): Promise<string> =>
  readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw refuse('config_invalid', { problem: `${path} cannot be read (${error.code})` }, error)
  })

/**
 * Reads the files of a connection: the authority of the server, and the certificate and key of the daemon.
 * @param home the folder that paths are relative to
 * @throws DeputyError `config_invalid` when a file cannot be read, or when others can read the key
 */
export const readTlsFiles = async (home: string, { ca, certificate, key }: TlsFiles): Promise<TlsMaterial> => {
  if (key !== undefined) await assertPrivateFile(resolve(home, key))
  return {
    ...(ca === undefined ? {} : { ca: await textOf(resolve(home, ca)) }),
    ...(certificate === undefined ? {} : { cert: await textOf(resolve(home, certificate)) }),
    ...(key === undefined ? {} : { key: await textOf(resolve(home, key)) }),
  }
}
