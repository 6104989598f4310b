import { z } from 'zod'
import { pathFor } from '#config'
import { refuse } from '#errors'
import { readVault, vaultRefusal, type VaultAnswer } from './client.ts'
import type { VaultSession } from './session.ts'

const entrySchema = z.object({
  data: z.object({ data: z.record(z.string(), z.unknown()), metadata: z.object({ version: z.int().positive() }) }),
})
/** A version that was deleted: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version */
const goneSchema = z.object({ data: z.object({ metadata: z.object({ version: z.int().positive() }) }) })
const writtenSchema = z.object({ data: z.object({ version: z.int().positive() }) })

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

/** One version of an entry. `fields` is undefined for a version that was deleted. */
export interface KvEntry {
  readonly number: number
  readonly fields: Readonly<Record<string, unknown>> | undefined
}

/** Where an entry is: a secret of a tenant; `suffix` names an entry next to it. */
export interface KvPlace {
  readonly tenant: string
  readonly name: string
  readonly suffix?: string
}

export interface KvOptions {
  /** Of the backend. */
  readonly id: string
  readonly mount: string
  readonly path: string
  readonly session: Pick<VaultSession, 'ask'>
}

/** Entries of a KV engine, version 2 (https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2), by the secrets that they are of. */
export class KvEntries {
  readonly #options: KvOptions
  #isMountKnown = false

  constructor(options: KvOptions) {
    this.#options = options
  }

  /** @param version default: the newest. @returns undefined where the entry, or that version of it, does not exist */
  async read(place: KvPlace, version?: number): Promise<KvEntry | undefined> {
    const { id, session } = this.#options
    const answer = await session.ask({
      method: 'GET',
      path: this.#url('data', place) + (version === undefined ? '' : `?version=${version}`),
    })
    if (answer.status === 404) {
      const gone = goneSchema.safeParse(answer.body)
      if (gone.success) return { number: gone.data.data.metadata.version, fields: undefined }
      await this.#assertMount()
      return undefined
    }
    const { data } = readVault(id, answer, entrySchema)
    return { number: data.metadata.version, fields: data.data }
  }

  /** @param cas number of the version that was read; 0: there was none. @returns false where the entry has another version */
  async write(place: KvPlace, fields: object, cas: number): Promise<boolean> {
    const { id, session } = this.#options
    await this.#assertMount()
    const path = this.#url('data', place)
    const answer = await session.ask({ method: 'POST', path, body: { data: fields, options: { cas } } })
    if (isMismatch(answer)) return false
    readVault(id, answer, writtenSchema)
    return true
  }

  /** Deletes an entry with all of its versions. One that does not exist stays so. */
  async remove(place: KvPlace): Promise<void> {
    await this.#expectGone({ method: 'DELETE', path: this.#url('metadata', place) })
  }

  /** Destroys versions of an entry, so that no one can restore them. */
  async destroy(place: KvPlace, versions: readonly number[]): Promise<void> {
    await this.#expectGone({ method: 'POST', path: this.#url('destroy', place), body: { versions } })
  }

  async #expectGone(request: { method: 'DELETE' | 'POST'; path: string; body?: object }): Promise<void> {
    const answer = await this.#options.session.ask(request)
    if (answer.status !== 200 && answer.status !== 204 && answer.status !== 404)
      throw vaultRefusal(this.#options.id, answer)
  }

  #url(verb: 'data' | 'metadata' | 'destroy', { tenant, name, suffix = '' }: KvPlace): string {
    return `${this.#options.mount}/${verb}/${pathFor(this.#options.path, tenant, name)}${suffix}`
  }

  /**
   * Asked once, before the first write and before a secret is reported as missing: in a mount of version 1 an entry of
   * version 2 looks like a secret that does not exist, and a pending version would be written where it is never removed.
   */
  async #assertMount(): Promise<void> {
    if (this.#isMountKnown) return
    const { id, mount, session } = this.#options
    const answer = await session.ask({ method: 'GET', path: `sys/internal/ui/mounts/${mount}` })
    const found = mountSchema.safeParse(answer.body)
    if (answer.status !== 200 || !found.success) {
      // Policies may forbid this request, and older versions do not answer it; the answer to the reading itself decides then.
      this.#isMountKnown = answer.status !== 403
      return
    }
    const problem = problemOfMount(mount, found.data.data)
    if (problem !== undefined) throw refuse('secret_backend_refused', { backend: id, problem, status: 400 })
    this.#isMountKnown = true
  }
}

const problemOfMount = (mount: string, { type, options }: z.output<typeof mountSchema>['data']): string | undefined => {
  if (type !== 'kv') return `its mount ${mount} is an engine of the kind ${type}, and secrets are read from a KV engine`
  if (Number(options?.['version'] ?? 1) !== KV)
    return `its mount ${mount} is a KV engine of version 1; Deputy needs version 2 (vault kv enable-versioning ${mount})`
  return undefined
}
