import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import type { SecretBackend, StagedSecrets } from '../../src/credentials/secret/backend.ts'

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
    beforeAll(async () => {
      place = await start()
    })
    afterAll(async () => {
      await place?.close()
    })
    const read = async (tenant: string, secret: string): Promise<string> =>
      (await place.backend.read(tenant, secret)).value.reveal()

    it('gives the version that was stored last, under another name', async () => {
      await place.put('acme', 'rotating', 'one')
      const first = await place.backend.read('acme', 'rotating')
      await place.put('acme', 'rotating', 'two')
      const second = await place.backend.read('acme', 'rotating')
      expect([first.value.reveal(), second.value.reveal()]).toEqual(['one', 'two'])
      expect(second.version).not.toBe(first.version)
    })

    it('promise 8: keeps the same name of two tenants apart', async () => {
      await place.put('acme', 'shared', 'of acme')
      await place.put('globex', 'shared', 'of globex')
      expect([await read('acme', 'shared'), await read('globex', 'shared')]).toEqual(['of acme', 'of globex'])
      await expect(place.backend.read('initech', 'shared')).rejects.toMatchObject({ code: 'secret_missing' })
    })

    it('says of what is not there that it is missing, also once it was removed', async () => {
      await expect(place.backend.read('acme', 'never')).rejects.toMatchObject({
        code: 'secret_missing',
        facts: { tenant: 'acme', secret: 'never' },
      })
      await place.put('acme', 'gone', 'x')
      await place.remove('acme', 'gone')
      await expect(place.backend.read('acme', 'gone')).rejects.toMatchObject({ code: 'secret_missing' })
    })

    it('gives back any text as it was', async () => {
      for (const value of [
        'with "quotes" and \\',
        'zwölf Boxkämpfer ☃ 𝄞',
        'line\nline\n',
        ' spaces ',
        'x'.repeat(50_000),
      ]) {
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

const TOKENS = ['0123456789abcdef0123456789abcdef', 'fedcba9876543210fedcba9876543210'] as const

/**
 * What a backend does whose secrets can be rotated.
 * @param firsts false where the first version of a secret cannot be a pending one
 */
export const describeStagedSecrets = (
  name: string,
  start: () => Promise<SecretBackendPlace & { readonly backend: StagedSecrets }>,
  { firsts = true } = {},
): void => {
  describe(`${name} keeps versions in stages`, () => {
    let place: SecretBackendPlace & { readonly backend: StagedSecrets }
    let count = 0
    let secret: string
    beforeAll(async () => {
      place = await start()
    })
    afterAll(async () => {
      await place?.close()
    })
    beforeEach(async () => {
      secret = `staged-${(count += 1)}`
      await place.put('acme', secret, 'old')
    })
    const values = async (): Promise<Record<string, string | undefined>> =>
      Object.fromEntries(
        await Promise.all(
          (['pending', 'current', 'previous'] as const).map(
            async (stage) => [stage, (await place.backend.find('acme', secret, stage))?.value.reveal()] as const,
          ),
        ),
      )
    const stage = (value: string, token: string = TOKENS[0]) =>
      place.backend.stage('acme', secret, new Secret(value), token)

    it('threat 28: what is pending is kept, and seen by nobody who reads', async () => {
      await stage('new')
      expect(await values()).toMatchObject({ pending: 'new', current: 'old' })
      expect((await place.backend.read('acme', secret)).value.reveal()).toBe('old')
      expect((await place.backend.find('acme', secret, 'pending'))?.token).toBe(TOKENS[0])
    })

    it('threat 28: the same token twice is one version, and the first value counts', async () => {
      const first = await stage('new')
      const again = await stage('newer')
      expect([again.version, again.value.reveal()]).toEqual([first.version, 'new'])
      await expect(stage('other', TOKENS[1])).rejects.toMatchObject({ code: 'conflict' })
    })

    it('a promotion moves both stages at once, and a second time does nothing', async () => {
      const before = await place.backend.read('acme', secret)
      const staged = await stage('new')
      for (let times = 0; times < 2; times += 1) {
        await place.backend.promote('acme', secret, staged, before)
        expect(await values()).toEqual({ pending: undefined, current: 'new', previous: 'old' })
      }
      expect((await place.backend.read('acme', secret)).value.reveal()).toBe('new')
    })

    it('fault 91: promotes only over what the caller has read, and overwrites nothing that was set meanwhile', async () => {
      const before = await place.backend.read('acme', secret)
      const staged = await stage('new')
      await place.put('acme', secret, 'of a person')
      await expect(place.backend.promote('acme', secret, staged, before)).rejects.toMatchObject({ code: 'conflict' })
      await expect(place.backend.promote('acme', secret, staged, undefined)).rejects.toMatchObject({ code: 'conflict' })
      expect(await values()).toMatchObject({ pending: 'new', current: 'of a person' })
    })

    it('fault 89: puts back the version that was replaced, as often as it is asked to', async () => {
      const before = await place.backend.read('acme', secret)
      await place.backend.promote('acme', secret, await stage('new'), before)
      const promoted = await place.backend.read('acme', secret)
      for (let times = 0; times < 2; times += 1) {
        await place.backend.promote('acme', secret, before, promoted)
        expect(await values()).toEqual({ pending: undefined, current: 'old', previous: 'new' })
      }
      expect((await place.backend.read('acme', secret)).token).toBe(before.token)
    })

    it('what is retired or discarded is gone, and only that', async () => {
      const staged = await stage('new')
      const before = await place.backend.read('acme', secret)
      await place.backend.promote('acme', secret, staged, before)
      // Of another stage: nothing.
      await place.backend.discard('acme', secret, staged.version)
      await place.backend.retire('acme', secret, staged)
      expect(await values()).toMatchObject({ current: 'new', previous: 'old' })
      for (let times = 0; times < 2; times += 1) await place.backend.retire('acme', secret, before)
      expect(await values()).toEqual({ pending: undefined, current: 'new', previous: undefined })
      const next = await stage('newest', TOKENS[1])
      for (let times = 0; times < 2; times += 1) await place.backend.discard('acme', secret, next.version)
      expect(await values()).toEqual({ pending: undefined, current: 'new', previous: undefined })
      expect((await stage('after all', '00000000000000000000000000000000')).value.reveal()).toBe('after all')
    })

    it(firsts ? 'a first version can be staged where there was none' : 'a first version cannot be staged', async () => {
      secret = `first-${(count += 1)}`
      if (!firsts) {
        await expect(stage('new')).rejects.toMatchObject({ code: 'secret_missing' })
        return
      }
      const staged = await stage('new')
      await expect(place.backend.read('acme', secret)).rejects.toMatchObject({ code: 'secret_missing' })
      await place.backend.promote('acme', secret, staged, undefined)
      expect(await values()).toEqual({ pending: undefined, current: 'new', previous: undefined })
    })
  })
}
