import { z } from 'zod'
import { pathFor } from '#config'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import type { SecretStage } from '#foundation/store'
import { ownValue } from '#foundation/text'
import type { SecretVersion, StagedSecrets } from '../backend.ts'
import { isSameSecret } from '../meaning.ts'
import { stagesOf } from '../stages.ts'
import { readVault, vaultRefusal, type VaultAnswer } from './client.ts'
import type { VaultSession } from './session.ts'

/** Where in an entry stands what a version was staged under. */
const TOKEN = 'deputy_token'
/** A character that no name of a secret has. */
const PENDING = '~pending'
/** So many versions back is looked for one: ten is what a mount keeps by default. */
const SEARCHED = 32

/** By meaning: an entry as a whole comes back with its fields in another order. */
const hasSameValue = (one: SecretVersion, other: SecretVersion): boolean => isSameSecret(one.value, other.value)
const isSameVersion = (one: SecretVersion | undefined, other: SecretVersion | undefined): boolean =>
  one === undefined || other === undefined ? one === other : hasSameValue(one, other) && one.token === other.token

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

/**
 * https://openbao.org/api-docs/system/internal-ui-mounts/ : any token may ask whose policies name a path in the mount.
 */
const mountSchema = z.object({
  data: z.object({ type: z.string(), options: z.record(z.string(), z.string()).nullish() }),
})
const KV = 2

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
  session: Pick<VaultSession, 'ask'>
}): StagedSecrets => {
  const { id, mount, field, session } = options
  const url = (verb: 'data' | 'metadata' | 'destroy', tenant: string, name: string, suffix = ''): string =>
    `${mount}/${verb}/${pathFor(options.path, tenant, name)}${suffix}`

  const refusedMount = (problem: string): Error =>
    refuse('secret_backend_refused', { backend: id, problem, status: 400 })
  let isMountKnown = false
  /**
   * Asked once, before anything is written and before a secret is told as missing: in a mount of version 1 an entry of
   * version 2 looks like a secret that does not
   * exist, and what is pending would be written where it is never removed.
   */
  const assertMount = async (): Promise<void> => {
    if (isMountKnown) return
    const answer = await session.ask({ method: 'GET', path: `sys/internal/ui/mounts/${mount}` })
    const found = mountSchema.safeParse(answer.body)
    if (answer.status !== 200 || !found.success) {
      // Policies may forbid to ask, and older versions have no answer; what is read says more then.
      isMountKnown = answer.status !== 403
      return
    }
    const { type, options: settings } = found.data.data
    if (type !== 'kv')
      throw refusedMount(`its mount ${mount} is an engine of the kind ${type}, and secrets are read from a KV engine`)
    if (Number(settings?.['version'] ?? 1) !== KV)
      throw refusedMount(
        `its mount ${mount} is a KV engine of version 1; Deputy needs version 2 (vault kv enable-versioning ${mount})`,
      )
    isMountKnown = true
  }

  const readEntry = async (tenant: string, name: string, suffix = '', version?: number): Promise<Entry | undefined> => {
    const answer = await session.ask({
      method: 'GET',
      path: url('data', tenant, name, suffix) + (version === undefined ? '' : `?version=${version}`),
    })
    if (answer.status === 404) {
      const gone = goneSchema.safeParse(answer.body)
      if (gone.success) return { number: gone.data.data.metadata.version, fields: undefined }
      await assertMount()
      return undefined
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

  const fieldsWith = (before: Entry | undefined, value: Secret, token: string | null): Record<string, unknown> => {
    const mark = token === null ? {} : { [TOKEN]: token }
    if (field !== null) {
      const { [TOKEN]: _, ...others } = before?.fields ?? {}
      return { ...others, [field]: value.reveal(), ...mark }
    }
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
    return { ...fields.data, ...mark }
  }

  /** @returns false when another version is there than the one that was read */
  const write = async (path: string, fields: object, cas: number): Promise<boolean> => {
    await assertMount()
    const answer = await session.ask({ method: 'POST', path, body: { data: fields, options: { cas } } })
    if (isMismatch(answer)) return false
    readVault(id, answer, writtenSchema)
    return true
  }

  /** Also what is not there is gone. */
  const remove = async (method: 'DELETE' | 'POST', path: string, body?: object): Promise<void> => {
    const answer = await session.ask({ method, path, ...(body === undefined ? {} : { body }) })
    if (answer.status !== 200 && answer.status !== 204 && answer.status !== 404) throw vaultRefusal(id, answer)
  }

  /**
   * Versions below the current one, the newest first. A number says nothing of what it is: a write of another field makes one
   * more version of the same value, and `max_versions` prunes. So versions are known by their value and token alone.
   */
  async function* earlier(
    tenant: string,
    name: string,
    current: Entry,
  ): AsyncIterable<{ number: number; version: SecretVersion }> {
    for (let number = current.number - 1; number > Math.max(0, current.number - SEARCHED); number -= 1) {
      const entry = await readEntry(tenant, name, '', number)
      // Pruned, as is everything before it; what was deleted or destroyed has a number still.
      if (entry === undefined) return
      const version = versionOf(entry, tenant, name)
      if (version !== undefined) yield { number, version }
    }
  }

  const previousOf = async (tenant: string, name: string): Promise<SecretVersion | undefined> => {
    const current = await readEntry(tenant, name)
    const now = current === undefined ? undefined : versionOf(current, tenant, name)
    if (current === undefined || now === undefined) return undefined
    for await (const { version } of earlier(tenant, name, current)) if (!hasSameValue(version, now)) return version
    return undefined
  }

  const find = async (tenant: string, name: string, stage: SecretStage): Promise<SecretVersion | undefined> => {
    if (stage === 'previous') return previousOf(tenant, name)
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
    async promote(tenant, name, next, expected) {
      const current = await readEntry(tenant, name)
      const now = current === undefined ? undefined : versionOf(current, tenant, name)
      if (!isSameVersion(now, next)) {
        if (!isSameVersion(now, expected)) throw conflict(tenant, name)
        // The write is checked against the number that was read: who has written meanwhile is not overwritten.
        const fields = fieldsWith(current, next.value, next.token)
        if (!(await write(url('data', tenant, name), fields, current?.number ?? 0))) throw conflict(tenant, name)
      }
      if (next.token !== null && (await find(tenant, name, 'pending'))?.token === next.token)
        await remove('DELETE', url('metadata', tenant, name, PENDING))
    },
    async retire(tenant, name, old) {
      const current = await readEntry(tenant, name)
      const now = current === undefined ? undefined : versionOf(current, tenant, name)
      if (current === undefined || (now !== undefined && hasSameValue(now, old))) return
      const found: number[] = []
      for await (const { number, version } of earlier(tenant, name, current))
        if (hasSameValue(version, old)) found.push(number)
      if (found.length > 0) await remove('POST', url('destroy', tenant, name), { versions: found })
    },
    async discard(tenant, name, version) {
      if ((await find(tenant, name, 'pending'))?.version === version)
        await remove('DELETE', url('metadata', tenant, name, PENDING))
    },
  }
}
