import { readFile } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import type { LocalReference, SecretReference } from '#config'
import { refuse } from '#errors'
import { NO_TEXT, Secret, secretText } from '#foundation/crypto'
import { assertPrivateFile } from '#foundation/files'
import type { RotatedSecret } from '#foundation/store'
import { ownValue } from '#foundation/text'
import type { SecretVersion } from './backend.ts'

/** Fetches the value that a secret reference in a file stands for. @throws DeputyError `secret_missing`, `config_invalid`, those of a backend */
export type ResolveSecret = (reference: SecretReference, tenant: string) => Promise<Secret>

/** Reads a secret out of whichever backend it is in. */
export type ReadSecret = (secret: RotatedSecret) => Promise<SecretVersion>

interface Surroundings {
  /** Folder that relative paths are relative to. */
  readonly home: string
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** Reads what the daemon itself is given. @param tenant for the message. @throws DeputyError `secret_missing`, `config_invalid` */
export const readLocalSecret = async (
  reference: LocalReference,
  { home, environment }: Surroundings,
  tenant: string,
): Promise<Secret> => {
  if ('env' in reference) {
    const value = ownValue(environment, reference.env)
    if (value === undefined || value === '')
      throw refuse('secret_missing', { tenant, secret: `environment variable ${reference.env}` })
    // What Node puts in the place of bytes that are no UTF-8.
    if (value.includes('\uFFFD'))
      throw refuse('config_invalid', { problem: `the secret in the environment variable ${reference.env}: ${NO_TEXT}` })
    return new Secret(value)
  }
  const path = isAbsolute(reference.file) ? reference.file : join(home, reference.file)
  await assertPrivateFile(path)
  const value = secretText(await readFile(path))
  if (value === undefined) throw refuse('config_invalid', { problem: `the secret in ${reference.file}: ${NO_TEXT}` })
  return new Secret(value)
}

export const createSecretResolver =
  (options: Surroundings & { read: ReadSecret }): ResolveSecret =>
  async (reference, tenant) =>
    'secret' in reference
      ? (await options.read({ tenant, ...reference })).value
      : readLocalSecret(reference, options, tenant)
