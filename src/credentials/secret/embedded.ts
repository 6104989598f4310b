import type { Clock } from '#clock'
import type { Envelope, Secret } from '#foundation/crypto'
import type { SecretStore, StoredSecret } from '#foundation/store'
import type { SecretVersion, StagedSecrets } from './backend.ts'
import { stagesOf } from './stages.ts'

const recordName = (tenant: string, name: string, version: number) => ({
  tenant,
  kind: 'secret',
  id: `${name}#${version}`,
})

/** The id under which files name it. */
export const EMBEDDED_BACKEND = 'embedded'

/** The embedded backend: versions of a tenant's secrets in Deputy's own store, sealed under the tenant's data key. */
export interface EmbeddedSecrets extends StagedSecrets {
  /** Stores a new version and makes it the current one. @returns its number. @throws DeputyError `conflict` */
  write(tenant: string, name: string, value: Secret): Promise<number>
  /** Removes every version. @returns how many there were. */
  remove(tenant: string, name: string): Promise<number>
  /** Names and versions, never values. */
  list(
    tenant?: string,
  ): Promise<{ tenant: string; name: string; version: number; stage: string | null; createdAt: number }[]>
}

export const createEmbeddedSecrets = (options: {
  store: SecretStore
  envelope: Envelope
  clock: Clock
}): EmbeddedSecrets => {
  const { store, envelope, clock } = options
  const opened = async (stored: StoredSecret): Promise<SecretVersion> => ({
    value: await envelope.open(recordName(stored.tenant, stored.name, stored.version), stored.sealed),
    version: String(stored.version),
    token: stored.token,
  })
  const find: EmbeddedSecrets['find'] = async (tenant, name, stage) => {
    const stored = await store.find(tenant, name, stage)
    return stored === undefined ? undefined : opened(stored)
  }
  const { read, staged, conflict } = stagesOf(find)
  return {
    read,
    find,
    async stage(tenant, name, value, token) {
      const pending = await staged(tenant, name, token)
      if (pending !== undefined) return pending
      const version = await store.nextVersion(tenant, name)
      const sealed = await envelope.seal(recordName(tenant, name, version), value)
      await store.putPending({ tenant, name, version, sealed, createdAt: clock.now(), token })
      return { value, version: String(version), token }
    },
    async promote(tenant, name, { version }, expected) {
      await store.promote(tenant, name, Number(version), expected === undefined ? null : Number(expected.version))
      if ((await store.find(tenant, name, 'current'))?.version !== Number(version)) throw conflict(tenant, name)
    },
    retire: (tenant, name, { version }) => store.removeVersion(tenant, name, Number(version), 'previous'),
    discard: (tenant, name, version) => store.removeVersion(tenant, name, Number(version), 'pending'),
    async write(tenant, name, value) {
      const version = await store.nextVersion(tenant, name)
      const sealed = await envelope.seal(recordName(tenant, name, version), value)
      await store.putCurrent({ tenant, name, version, sealed, createdAt: clock.now(), token: null })
      return version
    },
    remove: (tenant, name) => store.remove({ tenant, name }),
    async list(tenant) {
      return (await store.list(tenant)).map(({ sealed: _, ...facts }) => facts)
    },
  }
}
