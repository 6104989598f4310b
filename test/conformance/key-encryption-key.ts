import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { KeyEncryptionKey } from '../../src/crypto/key-encryption-key.ts'

export interface KeyEncryptionPlace {
  readonly key: KeyEncryptionKey
  close(): Promise<void>
}

/** What wraps data keys, wherever it is. */
export const describeKeyEncryptionKey = (name: string, start: () => Promise<KeyEncryptionPlace>): void => {
  describe(`${name} is a key-encryption key`, () => {
    let place: KeyEncryptionPlace
    beforeAll(async () => {
      place = await start()
    })
    afterAll(async () => {
      await place?.close()
    })
    const dataKey = Buffer.alloc(32, 7)
    const of = (text: string) => Buffer.from(text)

    it('gives back what it wrapped, and wraps the same key in another way each time', async () => {
      const [one, two] = [await place.key.wrap(dataKey, of('acme')), await place.key.wrap(dataKey, of('acme'))]
      expect(Buffer.from(one).equals(two)).toBe(false)
      for (const wrapped of [one, two])
        expect(Buffer.from(await place.key.unwrap(place.key.id, wrapped, of('acme')))).toEqual(dataKey)
      expect(Buffer.from(one).includes(dataKey)).toBe(false)
    })

    it('promise 8: what is wrapped for one tenant opens for no other', async () => {
      const wrapped = await place.key.wrap(dataKey, of('acme'))
      await expect(place.key.unwrap(place.key.id, wrapped, of('globex'))).rejects.toThrow()
      await expect(place.key.unwrap(place.key.id, wrapped, of(''))).rejects.toThrow()
    })

    it('opens nothing that was changed', async () => {
      const wrapped = Buffer.from(await place.key.wrap(dataKey, of('acme')))
      wrapped[wrapped.length - 8]! ^= 1
      await expect(place.key.unwrap(place.key.id, wrapped, of('acme'))).rejects.toThrow()
    })

    it('knows its own id and no other', () => {
      expect([place.key.knows(place.key.id), place.key.knows('another')]).toEqual([true, false])
    })
  })
}
