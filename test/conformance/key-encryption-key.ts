import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DeputyError } from '../../src/errors.ts'
import type { KeyEncryptionKey } from '../../src/foundation/crypto/key-encryption-key.ts'

export interface KeyEncryptionPlace {
  readonly key: KeyEncryptionKey
  close(): Promise<void>
}

/** Only what fails authentication is lost: everything else is an error of the taxonomy that says so. */
const expectUnauthentic = async (opening: Promise<unknown>): Promise<void> => {
  const error = await opening.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(Error)
  expect(error).not.toBeInstanceOf(DeputyError)
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
      expect(Buffer.from(one.bytes).equals(two.bytes)).toBe(false)
      for (const { id, bytes } of [one, two])
        expect(Buffer.from(await place.key.unwrap(id, bytes, of('acme')))).toEqual(dataKey)
      expect(Buffer.from(one.bytes).includes(dataKey)).toBe(false)
    })

    it('promise 8: what is wrapped for one tenant opens for no other', async () => {
      const { id, bytes } = await place.key.wrap(dataKey, of('acme'))
      await expectUnauthentic(place.key.unwrap(id, bytes, of('globex')))
      await expectUnauthentic(place.key.unwrap(id, bytes, of('')))
    })

    it('fault 49, fault 93: opens nothing that was changed', async () => {
      const { id, bytes } = await place.key.wrap(dataKey, of('acme'))
      bytes[bytes.length - 8]! ^= 1
      await expectUnauthentic(place.key.unwrap(id, bytes, of('acme')))
    })

    it('knows its own id and no other', () => {
      expect([place.key.knows(place.key.id), place.key.knows('another')]).toEqual([true, false])
    })
  })
}
