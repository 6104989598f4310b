import { describe, expect, it, onTestFinished } from 'vitest'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEmbeddedSecrets } from '../../src/credentials/secret/embedded.ts'
import { describeSecretBackend, describeStagedSecrets } from '../conformance/secret-backend.ts'
import { startGround } from '../support/keyring.ts'
import { aClock } from '../support/snapshot.ts'

const start = async () => {
  const { store, envelope, close } = await startGround()
  const backend = createEmbeddedSecrets({ store: store.secrets, envelope, clock: aClock() })
  return {
    backend,
    store,
    envelope,
    close,
    put: async (tenant: string, name: string, value: string) => {
      await backend.write(tenant, name, new Secret(value))
    },
    remove: async (tenant: string, name: string) => {
      await backend.remove(tenant, name)
    },
  }
}

describeSecretBackend('the embedded one', start)
describeStagedSecrets('the embedded one', start)

describe('the embedded backend', () => {
  it('promise 8: a sealed version that is moved to another tenant, name or number cannot be read there', async () => {
    const { backend, store, close, put } = await start()
    onTestFinished(close)
    await put('acme', 'key', 'of acme')
    const { sealed } = (await store.secrets.find('acme', 'key', 'current'))!
    for (const [tenant, name, version] of [
      ['globex', 'key', 1],
      ['acme', 'other', 1],
      ['acme', 'key', 2],
    ] as const) {
      await store.secrets.putCurrent({ tenant, name, version, sealed, createdAt: 1, token: null })
      await expect(backend.read(tenant, name)).rejects.toMatchObject({ code: 'secret_unreadable' })
    }
  })
})
