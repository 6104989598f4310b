import { readFile } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import type { SecretReference } from '../config/values.ts'
import { assertPrivateFile } from '../crypto/private-file.ts'
import { Secret } from '../crypto/secret.ts'
import { refuse } from '../errors.ts'
import type { SecretBackend } from './backend.ts'

/** Fetches the value that a secret reference in a file stands for. @throws DeputyError `secret_missing`, `config_invalid` */
export type ResolveSecret = (reference: SecretReference, tenant: string) => Promise<Secret>

export const createSecretResolver = (options: {
  backend: SecretBackend
  /** Folder that relative paths are relative to. */
  home: string
  environment: Readonly<Record<string, string | undefined>>
}): ResolveSecret => async (reference, tenant) => {
  if ('secret' in reference) return (await options.backend.read(tenant, reference.secret)).value
  if ('env' in reference) {
    const value = options.environment[reference.env]
    if (value === undefined || value === '') throw refuse('secret_missing', { tenant, secret: `environment variable ${reference.env}` })
    return new Secret(value)
  }
  const path = isAbsolute(reference.file) ? reference.file : join(options.home, reference.file)
  await assertPrivateFile(path)
  return new Secret((await readFile(path, 'utf8')).replace(/\r?\n$/, ''))
}
