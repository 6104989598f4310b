import { createHash } from 'node:crypto'
import { createLru } from '#foundation/lru'
import type { Downstream } from '#config'
import { DeputyError } from '#errors'
import type { RotatedSecret, StoredSecret } from '#foundation/store'
import type { SecretVersion } from './backend.ts'
import { EMBEDDED_BACKEND } from './embedded.ts'

type NamedSecret = Pick<RotatedSecret, 'backend' | 'secret'>

const MAX_KNOWN = 10_000

const isNamed = (value: object): value is NamedSecret =>
  'secret' in value && typeof value.secret === 'string' && 'backend' in value && typeof value.backend === 'string'

const digestOf = (value: string | Uint8Array): string => createHash('sha256').update(value).digest('base64url')

/** A version by its ciphertext, of which no two are equal: numbers begin anew when a secret was removed and is set again. */
const nameOf = (stored: Pick<StoredSecret, 'sealed'> | undefined): string =>
  stored === undefined ? '' : digestOf(stored.sealed)

/** Every secret that a file names, wherever it stands in it: the key that is handed out, a client's secret, a signing key. */
export const secretsNamedIn = (value: unknown): NamedSecret[] => {
  if (typeof value !== 'object' || value === null) return []
  const here = isNamed(value) ? [{ backend: value.backend, secret: value.secret }] : []
  return [...here, ...Object.values(value).flatMap(secretsNamedIn)]
}

/**
 * Which versions of its secrets a credential of a downstream rests on, as one text; undefined where its file names none. It is
 * part of what a credential is cached under: when `deputy secret set` has returned, no node finds what was made with
 * the version before. What other backends keep is asked for where it is handed out itself, and is as new as `fresh` says.
 */
export const createSecretVersions = (deps: {
  /** The current version in Deputy's own store, on every node the same; undefined where there is none. */
  readonly embedded: (tenant: string, name: string) => Promise<Pick<StoredSecret, 'sealed'> | undefined>
  /** Changes with each write to that store, before and after it; absent where other processes write it too. */
  readonly writes?: (() => number) | undefined
  readonly read: (secret: RotatedSecret) => Promise<Pick<SecretVersion, 'version' | 'value'>>
}) => {
  const named = new WeakMap<Downstream, readonly NamedSecret[]>()
  const known = createLru<string, string>({ max: MAX_KNOWN })

  const cachedVersion = async (secret: RotatedSecret): Promise<string> => {
    const key = JSON.stringify([secret.tenant, secret.backend, secret.secret])
    try {
      const { version, value } = await deps.read(secret)
      // Vaults count from one again as well (https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#delete-metadata-and-all-versions).
      const name = `${version} ${digestOf(value.reveal())}`
      known.set(key, name)
      return name
    } catch (error) {
      // While the backend is away what was made before stays in use; what else is wrong is not asked for twice.
      if (!(error instanceof DeputyError) || error.code !== 'secret_backend_unavailable') throw error
      return known.get(key) ?? ''
    }
  }

  const embedded = createLru<string, { readonly name: string; readonly writes: number }>({ max: MAX_KNOWN })

  /** Asked of the store with each request, unless this process writes all that is in it, and has written nothing since. */
  const embeddedVersion = async (tenant: string, secret: string): Promise<string> => {
    const writes = deps.writes?.()
    const key = JSON.stringify([tenant, secret])
    const before = embedded.get(key)
    if (before !== undefined && before.writes === writes) return before.name
    const name = nameOf(await deps.embedded(tenant, secret))
    // Under the count before the read: what was read beside a write may be of before or after it.
    if (writes !== undefined) embedded.set(key, { name, writes })
    return name
  }

  const versionOf = async (
    downstream: Downstream,
    tenant: string,
    { backend, secret }: NamedSecret,
  ): Promise<string> => {
    if (backend === EMBEDDED_BACKEND) return embeddedVersion(tenant, secret)
    return 'secret' in downstream ? cachedVersion({ tenant, backend, secret }) : ''
  }

  return (downstream: Downstream, tenant: string): Promise<string> | undefined => {
    let secrets = named.get(downstream)
    if (secrets === undefined) named.set(downstream, (secrets = secretsNamedIn(downstream)))
    if (secrets.length === 0) return undefined
    return Promise.all(secrets.map((secret) => versionOf(downstream, tenant, secret))).then((versions) =>
      JSON.stringify(versions),
    )
  }
}
export type SecretVersions = ReturnType<typeof createSecretVersions>
