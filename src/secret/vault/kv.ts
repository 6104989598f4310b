import { z } from 'zod'
import { pathFor } from '../../config/secret-backends.ts'
import { Secret } from '../../crypto/secret.ts'
import { refuse } from '../../errors.ts'
import type { SecretStage, SecretVersion, StagedSecrets } from '../backend.ts'
import { stagesOf } from '../stages.ts'
import { readVault, vaultWords, type VaultAnswer } from './client.ts'
import type { VaultSession } from './session.ts'
import { ownValue } from '../../own-value.ts'

/** Where in an entry stands what a version was staged under. */
const TOKEN = 'deputy_token'
/** A character that no name of a secret has. */
const PENDING = '~pending'

const entrySchema = z.object({
  data: z.object({ data: z.record(z.string(), z.unknown()), metadata: z.object({ version: z.int().positive() }) }),
})
/** A version that was deleted: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version */
const goneSchema = z.object({ data: z.object({ metadata: z.object({ version: z.int().positive() }) }) })
const writtenSchema = z.object({ data: z.object({ version: z.int().positive() }) })

interface Entry {
  readonly number: number
  readonly fields: Readonly<Record<string, unknown>> | undefined
}

/** A check-and-set that found another version than the one that was read (KV v2, `options.cas`). */
const isMismatch = ({ status, body }: VaultAnswer): boolean =>
  status === 400 && /check-and-set parameter did not match/.test(JSON.stringify(body))

/**
 * Secrets in a KV engine, version 2 (https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2). KV knows numbers and no
 * stages, and whoever reads an entry gets its newest version. So what is pending lies in an entry of its own beside it, which
 * nobody reads, and becomes a version of the entry when it is promoted; every write is checked against the version that was
 * read. What a rotation has written carries the rotation's token, which is its name from then on.
 */
export const createVaultSecrets = (options: {
  id: string
  mount: string
  path: string
  field: string | null
  session: VaultSession
}): StagedSecrets => {
  const { id, mount, field, session } = options
  const url = (verb: 'data' | 'metadata' | 'destroy', tenant: string, name: string, suffix = ''): string =>
    `${mount}/${verb}/${pathFor(options.path, tenant, name)}${suffix}`

  const readEntry = async (tenant: string, name: string, suffix = '', version?: number): Promise<Entry | undefined> => {
    const answer = await session.ask({
      method: 'GET',
      path: url('data', tenant, name, suffix) + (version === undefined ? '' : `?version=${version}`),
    })
    if (answer.status === 404) {
      const gone = goneSchema.safeParse(answer.body)
      return gone.success ? { number: gone.data.data.metadata.version, fields: undefined } : undefined
    }
    const { data } = readVault(id, answer, entrySchema)
    return { number: data.metadata.version, fields: data.data }
  }

  const versionOf = ({ number, fields }: Entry, tenant: string, name: string): SecretVersion | undefined => {
    if (fields === undefined) return undefined
    const { [TOKEN]: given, ...rest } = fields
    const token = typeof given === 'string' ? given : null
    const value = field === null ? JSON.stringify(rest) : ownValue(fields, field)
    if (typeof value !== 'string')
      throw refuse('secret_backend_refused', {
        backend: id,
        problem: `the entry ${name} of ${tenant} has no text in the field ${field}`,
      })
    return { value: new Secret(value), version: token === null ? `n-${number}` : `t-${token}`, token }
  }

  const fieldsWith = (before: Entry | undefined, value: Secret, token: string): Record<string, unknown> => {
    if (field !== null) return { ...before?.fields, [field]: value.reveal(), [TOKEN]: token }
    let parsed: unknown
    try {
      parsed = JSON.parse(value.reveal())
    } catch {
      parsed = undefined
    }
    const fields = z.record(z.string(), z.unknown()).safeParse(parsed)
    if (!fields.success)
      throw refuse('secret_backend_refused', {
        backend: id,
        problem: 'an entry as a whole is a JSON object, and the new secret is none',
      })
    return { ...fields.data, [TOKEN]: token }
  }

  /** @returns false when another version is there than the one that was read */
  const write = async (path: string, fields: object, cas: number): Promise<boolean> => {
    const answer = await session.ask({ method: 'POST', path, body: { data: fields, options: { cas } } })
    if (isMismatch(answer)) return false
    readVault(id, answer, writtenSchema)
    return true
  }

  /** Also what is not there is gone. */
  const remove = async (method: 'DELETE' | 'POST', path: string, body?: object): Promise<void> => {
    const answer = await session.ask({ method, path, ...(body === undefined ? {} : { body }) })
    if (answer.status !== 200 && answer.status !== 204 && answer.status !== 404)
      throw refuse('secret_backend_refused', { backend: id, problem: vaultWords(answer) })
  }

  const previousOf = async (
    tenant: string,
    name: string,
  ): Promise<{ number: number; version: SecretVersion } | undefined> => {
    const current = await readEntry(tenant, name)
    if (current === undefined || current.number < 2) return undefined
    const before = await readEntry(tenant, name, '', current.number - 1)
    const version = before === undefined ? undefined : versionOf(before, tenant, name)
    return version === undefined ? undefined : { number: current.number - 1, version }
  }

  const find = async (tenant: string, name: string, stage: SecretStage): Promise<SecretVersion | undefined> => {
    if (stage === 'previous') return (await previousOf(tenant, name))?.version
    const entry = await readEntry(tenant, name, stage === 'pending' ? PENDING : '')
    return entry === undefined ? undefined : versionOf(entry, tenant, name)
  }
  const { read, staged, conflict } = stagesOf(find)

  return {
    read,
    find,
    async stage(tenant, name, value, token) {
      const fields = fieldsWith(undefined, value, token)
      // Only where there is no entry: whoever comes second finds the other one's.
      await write(url('data', tenant, name, PENDING), fields, 0)
      const pending = await staged(tenant, name, token)
      if (pending === undefined) throw conflict(tenant, name)
      return pending
    },
    async promote(tenant, name, version) {
      const pending = await find(tenant, name, 'pending')
      const current = await readEntry(tenant, name)
      const isDone = current !== undefined && versionOf(current, tenant, name)?.version === version
      if (!isDone) {
        if (pending?.version !== version || pending.token === null) throw conflict(tenant, name)
        if (
          !(await write(
            url('data', tenant, name),
            fieldsWith(current, pending.value, pending.token),
            current?.number ?? 0,
          ))
        )
          throw conflict(tenant, name)
      }
      if (pending?.version === version) await remove('DELETE', url('metadata', tenant, name, PENDING))
    },
    async retire(tenant, name, version) {
      const previous = await previousOf(tenant, name)
      if (previous?.version.version === version)
        await remove('POST', url('destroy', tenant, name), { versions: [previous.number] })
    },
    async discard(tenant, name, version) {
      if ((await find(tenant, name, 'pending'))?.version === version)
        await remove('DELETE', url('metadata', tenant, name, PENDING))
    },
  }
}
