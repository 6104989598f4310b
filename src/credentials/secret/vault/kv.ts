import { z } from 'zod'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import type { SecretStage } from '#foundation/store'
import { ownValue } from '#foundation/text'
import type { SecretVersion, StagedSecrets } from '../backend.ts'
import { isSameSecret } from '../meaning.ts'
import { stagesOf } from '../stages.ts'
import { KvEntries, type KvEntry, type KvOptions } from './kv-entries.ts'

/** The field of an entry that names the token under which a version was staged. */
const TOKEN = 'deputy_token'
/** A character that no name of a secret has. */
const PENDING = '~pending'
/** A search goes back so many versions at most: a mount keeps ten by default. */
const MAX_SEARCHED_VERSIONS = 32

/** By meaning: an entry as a whole comes back with its fields in another order. */
const hasSameValue = (one: SecretVersion, other: SecretVersion): boolean => isSameSecret(one.value, other.value)
const isSameVersion = (one: SecretVersion | undefined, other: SecretVersion | undefined): boolean =>
  one === undefined || other === undefined ? one === other : hasSameValue(one, other) && one.token === other.token

/** A secret as fields of an entry: one field of it, or, with `field` null, the entry as a whole. */
interface EntryForm {
  /** Of the backend. */
  readonly id: string
  readonly field: string | null
}

/** @returns undefined for a version that was deleted. @throws DeputyError `secret_backend_refused` where the field has no text */
const versionIn = (
  { id, field }: EntryForm,
  { number, fields }: KvEntry,
  { tenant, name }: { readonly tenant: string; readonly name: string },
): SecretVersion | undefined => {
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

/** The fields of an entry with a secret in them; other fields than the secret's own stay. @throws DeputyError `secret_backend_refused` */
const fieldsWith = (
  { id, field }: EntryForm,
  before: KvEntry | undefined,
  { value, token }: Pick<SecretVersion, 'value' | 'token'>,
): Record<string, unknown> => {
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

/**
 * Secrets in a KV engine, version 2. KV has version numbers and no stages, and a reader of an entry gets its newest version. So
 * a pending version lies in an entry next to it that no server reads, and becomes a version of the entry when it is promoted;
 * every write is checked against the version that was read. A version that a rotation has written carries the rotation's token,
 * which is its name from then on.
 */
export const createVaultSecrets = (options: KvOptions & { readonly field: string | null }): StagedSecrets =>
  new VaultSecrets(options)

class VaultSecrets implements StagedSecrets {
  readonly #entries: KvEntries
  readonly #form: EntryForm
  readonly #stages = stagesOf((tenant, name, stage) => this.find(tenant, name, stage))

  constructor(options: KvOptions & EntryForm) {
    this.#entries = new KvEntries(options)
    this.#form = options
  }

  read(tenant: string, name: string): Promise<SecretVersion> {
    return this.#stages.read(tenant, name)
  }

  async find(tenant: string, name: string, stage: SecretStage): Promise<SecretVersion | undefined> {
    if (stage === 'previous') return this.#findPrevious(tenant, name)
    const place = { tenant, name, suffix: stage === 'pending' ? PENDING : '' }
    const entry = await this.#entries.read(place)
    return entry === undefined ? undefined : versionIn(this.#form, entry, place)
  }

  async stage(tenant: string, name: string, value: Secret, token: string): Promise<SecretVersion> {
    const fields = fieldsWith(this.#form, undefined, { value, token })
    // Only where there is no entry: a second writer finds the first one's.
    await this.#entries.write({ tenant, name, suffix: PENDING }, fields, 0)
    const pending = await this.#stages.staged(tenant, name, token)
    if (pending === undefined) throw this.#stages.conflict(tenant, name)
    return pending
  }

  async promote(tenant: string, name: string, next: SecretVersion, expected: SecretVersion | undefined): Promise<void> {
    const { entry, version } = await this.#current(tenant, name)
    if (!isSameVersion(version, next)) {
      if (!isSameVersion(version, expected)) throw this.#stages.conflict(tenant, name)
      // The write is checked against the number that was read: it overwrites no concurrent write.
      const fields = fieldsWith(this.#form, entry, next)
      if (!(await this.#entries.write({ tenant, name }, fields, entry?.number ?? 0)))
        throw this.#stages.conflict(tenant, name)
    }
    if (next.token !== null && (await this.find(tenant, name, 'pending'))?.token === next.token)
      await this.#entries.remove({ tenant, name, suffix: PENDING })
  }

  async retire(tenant: string, name: string, old: SecretVersion): Promise<void> {
    const { entry, version: current } = await this.#current(tenant, name)
    if (entry === undefined || (current !== undefined && hasSameValue(current, old))) return
    const found: number[] = []
    for await (const { number, version } of this.#earlier(tenant, name, entry))
      if (hasSameValue(version, old)) found.push(number)
    if (found.length > 0) await this.#entries.destroy({ tenant, name }, found)
  }

  async discard(tenant: string, name: string, version: string): Promise<void> {
    if ((await this.find(tenant, name, 'pending'))?.version === version)
      await this.#entries.remove({ tenant, name, suffix: PENDING })
  }

  async #current(tenant: string, name: string) {
    const entry = await this.#entries.read({ tenant, name })
    return { entry, version: entry === undefined ? undefined : versionIn(this.#form, entry, { tenant, name }) }
  }

  async #findPrevious(tenant: string, name: string): Promise<SecretVersion | undefined> {
    const { entry, version: current } = await this.#current(tenant, name)
    if (entry === undefined || current === undefined) return undefined
    for await (const { version } of this.#earlier(tenant, name, entry))
      if (!hasSameValue(version, current)) return version
    return undefined
  }

  /**
   * Versions below the current one, the newest first. A number does not identify a value: a write of another field makes one
   * more version of the same value, and `max_versions` prunes. So versions are identified by their value and token only.
   */
  async *#earlier(
    tenant: string,
    name: string,
    current: KvEntry,
  ): AsyncIterable<{ number: number; version: SecretVersion }> {
    for (let number = current.number - 1; number > Math.max(0, current.number - MAX_SEARCHED_VERSIONS); number -= 1) {
      const entry = await this.#entries.read({ tenant, name }, number)
      // Pruned, as is everything before it; a version that was deleted or destroyed still has a number.
      if (entry === undefined) return
      const version = versionIn(this.#form, entry, { tenant, name })
      if (version !== undefined) yield { number, version }
    }
  }
}
