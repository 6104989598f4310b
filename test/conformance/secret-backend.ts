import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { SecretBackend } from '../../src/secret/backend.ts'

export interface SecretBackendPlace {
  readonly backend: SecretBackend
  /** Stores a version by the means of the backend itself. */
  put(tenant: string, name: string, value: string): Promise<void>
  remove(tenant: string, name: string): Promise<void>
  close(): Promise<void>
}

/** What every backend of secrets does, whatever keeps them. */
export const describeSecretBackend = (name: string, start: () => Promise<SecretBackendPlace>): void => {
  describe(`${name} is a backend of secrets`, () => {
    let place: SecretBackendPlace
    beforeAll(async () => { place = await start() })
    afterAll(async () => { await place?.close() })
    const read = async (tenant: string, secret: string): Promise<string> => (await place.backend.read(tenant, secret)).value.reveal()

    it('gives the version that was stored last, under a number that grows', async () => {
      await place.put('acme', 'rotating', 'one')
      const first = await place.backend.read('acme', 'rotating')
      await place.put('acme', 'rotating', 'two')
      const second = await place.backend.read('acme', 'rotating')
      expect([first.value.reveal(), second.value.reveal()]).toEqual(['one', 'two'])
      expect(second.version).toBeGreaterThan(first.version)
    })

    it('promise 8: keeps the same name of two tenants apart', async () => {
      await place.put('acme', 'shared', 'of acme')
      await place.put('globex', 'shared', 'of globex')
      expect([await read('acme', 'shared'), await read('globex', 'shared')]).toEqual(['of acme', 'of globex'])
      await expect(place.backend.read('initech', 'shared')).rejects.toMatchObject({ code: 'secret_missing' })
    })

    it('says of what is not there that it is missing, also once it was removed', async () => {
      await expect(place.backend.read('acme', 'never')).rejects.toMatchObject({ code: 'secret_missing', facts: { tenant: 'acme', secret: 'never' } })
      await place.put('acme', 'gone', 'x')
      await place.remove('acme', 'gone')
      await expect(place.backend.read('acme', 'gone')).rejects.toMatchObject({ code: 'secret_missing' })
    })

    it('gives back any text as it was', async () => {
      for (const value of ['with "quotes" and \\', 'zwölf Boxkämpfer ☃ 𝄞', 'line\nline\n', ' spaces ', 'x'.repeat(50_000)]) {
        await place.put('acme', 'text', value)
        expect(await read('acme', 'text')).toBe(value)
      }
    })

    it('promise 5: what it gives does not print itself', async () => {
      await place.put('acme', 'canary', 'canary-value')
      const given = await place.backend.read('acme', 'canary')
      expect(`${JSON.stringify(given)} ${String(given.value)}`).not.toContain('canary-value')
    })
  })
}
