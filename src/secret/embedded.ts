import type { Clock } from '../clock.ts'
import type { Envelope } from '../crypto/envelope.ts'
import type { Secret } from '../crypto/secret.ts'
import { refuse } from '../errors.ts'
import type { SecretStore } from '../store/store.ts'
import type { SecretBackend } from './backend.ts'

const recordName = (tenant: string, name: string, version: number) => ({ tenant, kind: 'secret', id: `${name}#${version}` })

/** The embedded backend: versions of a tenant's secrets in Deputy's own store, sealed under the tenant's data key. */
export interface EmbeddedSecrets extends SecretBackend {
  /** Stores a new version and makes it the current one. @returns its number. @throws DeputyError `conflict` */
  write(tenant: string, name: string, value: Secret): Promise<number>
  /** Removes every version. @returns how many there were. */
  remove(tenant: string, name: string): Promise<number>
  /** Names and versions, never values. */
  list(tenant?: string): Promise<{ tenant: string; name: string; version: number; stage: string | null; createdAt: number }[]>
}

export const createEmbeddedSecrets = (options: { store: SecretStore; envelope: Envelope; clock: Clock }): EmbeddedSecrets => {
  const { store, envelope, clock } = options
  return {
    async read(tenant, name) {
      const stored = await store.find(tenant, name, 'current')
      if (stored === undefined) throw refuse('secret_missing', { tenant, secret: name })
      return { value: await envelope.open(recordName(tenant, name, stored.version), stored.sealed), version: stored.version }
    },
    async write(tenant, name, value) {
      const version = await store.nextVersion(tenant, name)
      const sealed = await envelope.seal(recordName(tenant, name, version), value)
      await store.putCurrent({ tenant, name, version, sealed, createdAt: clock.now() })
      return version
    },
    remove: (tenant, name) => store.remove({ tenant, name }),
    async list(tenant) {
      return (await store.list(tenant)).map(({ sealed: _, ...facts }) => facts)
    },
  }
}
