/** The secret of a client of Deputy's, as commands take it: from a file, from standard input, or typed without echo. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Provider, Settings } from '#config'
import { Secret, secretText } from '#foundation/crypto'
import { createFile } from '#foundation/files'
import { makeFolder, ownAsDaemon } from './file-owner.ts'
import { removing, type Undo, writeNew } from './registry-file.ts'
import { CommandError, exit, type Terminal } from '../terminal.ts'

/** Where a document finds the secret, and the secret where it is still to be written there. */
export interface ClientSecret {
  /** Relative to the home, or absolute. */
  readonly file: string
  readonly written?: Secret
}

export interface SecretRequest {
  readonly home: string
  /** Value of `--client-secret-file`: a path, or `-` for standard input. */
  readonly option: string | undefined
  /** Name of the file below `secrets`, where the secret is given by hand. */
  readonly name: string
  /** Whether the client has a secret; false: it may be a public client. */
  readonly isNeeded: boolean
}

/** Whether a client of the provider has a secret that it sends. */
export const hasSecret = ({ client_authentication: way }: Provider): boolean =>
  way === 'client_secret_basic' || way === 'client_secret_post'

const MISSING = 'Name a file with --client-secret-file, or pipe the secret in: --client-secret-file - < FILE'

/** The secret as it is to be written. @throws CommandError `usage` for bytes that are no text */
export const givenSecret = (name: string, bytes: Uint8Array): ClientSecret | undefined => {
  const text = secretText(bytes)?.trim()
  if (text === undefined) throw new CommandError(exit.usage, 'The client secret is no text.', MISSING)
  return text === '' ? undefined : { file: `secrets/${name}`, written: new Secret(text) }
}

const namedFile = (path: string, home: string, workingFolder: string): ClientSecret => {
  if (existsSync(join(home, path))) return { file: path }
  const absolute = resolve(workingFolder, path)
  // A file that is still to be written is one of the home; the check at the end warns of it.
  return { file: existsSync(absolute) ? absolute : path }
}

/** Types it without echo. */
const typedSecret = async ({ name }: SecretRequest, terminal: Terminal): Promise<ClientSecret | undefined> => {
  const asking = terminal.openQuestions!()
  try {
    return givenSecret(name, Buffer.from(await asking.ask('Client secret (it is not shown): ', { secret: true })))
  } finally {
    asking.close()
  }
}

/** @returns undefined for a public client. @throws CommandError `usage` */
export const clientSecretOf = async (request: SecretRequest, terminal: Terminal): Promise<ClientSecret | undefined> => {
  const { home, option, name, isNeeded } = request
  if (option !== undefined && option !== '-') return namedFile(option, home, terminal.workingFolder)
  if (option === undefined && !isNeeded) return undefined
  const secret =
    option === '-'
      ? givenSecret(name, await terminal.input())
      : terminal.openQuestions === undefined
        ? undefined
        : await typedSecret(request, terminal)
  if (secret === undefined && isNeeded)
    throw new CommandError(exit.usage, 'The client needs its secret, and none was given.', MISSING)
  return secret
}

/** Writes a secret that was given by hand, mode 0600, for the user that the daemon runs as. @throws CommandError where the file exists */
const writeSecret = async (
  home: string,
  settings: Pick<Settings, 'state'>,
  secret: ClientSecret | undefined,
): Promise<Undo> => {
  if (secret?.written === undefined) return () => Promise.resolve()
  const path = join(home, secret.file)
  await makeFolder(join(home, 'secrets'))
  if (!(await createFile(path, `${secret.written.reveal()}\n`)))
    throw new CommandError(
      exit.failed,
      `${secret.file} exists already.`,
      `Use it with --client-secret-file ${secret.file}, or remove it.`,
    )
  await ownAsDaemon(path, [resolve(home, settings.state), home])
  return removing(home, secret.file)
}

/**
 * Writes the file of something new, and before it the secret that the file names: both or none.
 * @returns the file, relative to the home, and what takes both back
 * @throws CommandError where one of them exists
 */
export const writeNewWithSecret = async (
  document: Parameters<typeof writeNew>[0],
  settings: Pick<Settings, 'state'>,
  secret: ClientSecret | undefined,
): Promise<{ readonly file: string; readonly undo: Undo }> => {
  const { home } = document
  const undoSecret = await writeSecret(home, settings, secret)
  try {
    const file = await writeNew(document)
    return {
      file,
      undo: async () => {
        await removing(home, file)()
        await undoSecret()
      },
    }
  } catch (error) {
    await undoSecret()
    throw error
  }
}
