import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import type { StagedSecrets } from '../../src/credentials/secret/backend.ts'

/** A backend that takes the field `password` of secrets that are JSON objects. */
export interface FieldPlace {
  readonly backend: StagedSecrets
  /** Another writer stores the secret as a whole. */
  put(tenant: string, name: string, text: string): Promise<void>
  /** What everybody else reads. */
  text(tenant: string, name: string): Promise<string>
  close(): Promise<void>
}

const TOKEN = '0123456789abcdef0123456789abcdef'
/** As the console of AWS writes it, with a number that JavaScript cannot hold. */
const BEFORE = '{"username":"app","password":"old","host":"db","id":12345678901234567890,"ratio":1.0}'

/** What a backend does that takes one field of an object for the secret, while others write the object. */
export const describeSecretField = (name: string, start: () => Promise<FieldPlace>): void => {
  describe(`${name}: one field of a secret`, () => {
    let place: FieldPlace
    let secret: string
    let count = 0
    beforeAll(async () => {
      place = await start()
    })
    afterAll(async () => {
      await place?.close()
    })
    beforeEach(async () => {
      secret = `field-${(count += 1)}`
      await place.put('acme', secret, BEFORE)
    })
    const put = (text: string) => place.put('acme', secret, text)
    const text = () => place.text('acme', secret)
    const read = () => place.backend.read('acme', secret)
    const stage = (value: string) => place.backend.stage('acme', secret, new Secret(value), TOKEN)

    it('fault 96: is read by itself, and refused where there is no text in it', async () => {
      expect((await read()).value.reveal()).toBe('old')
      for (const other of [
        'plain',
        '["password"]',
        '{"username":"app"}',
        '{"password":5}',
        '1.0',
        '{"password":1.0}',
      ]) {
        await put(other)
        await expect(read()).rejects.toMatchObject({
          code: 'secret_backend_refused',
          message: expect.stringMatching(/no JSON object|no text in the field password/) as string,
        })
        if (!other.includes(':')) await expect(stage('new')).rejects.toMatchObject({ code: 'secret_backend_refused' })
      }
      // Names of an object's prototype are no fields.
      await put('{"__proto__":{"password":"x"}}')
      await expect(read()).rejects.toMatchObject({ code: 'secret_backend_refused' })
    })

    it('fault 96: a rotation keeps the other fields, with every digit', async () => {
      const before = await read()
      await place.backend.promote('acme', secret, await stage('new'), before)
      expect(await text()).toBe(BEFORE.replace('"old"', '"new"'))
      await place.backend.retire('acme', secret, before)
      expect(await place.backend.find('acme', secret, 'previous')).toBeUndefined()
      expect(await place.backend.find('acme', secret, 'pending')).toBeUndefined()
    })

    it('fault 96: what another writer has changed in other fields since is kept, there and on the way back', async () => {
      const before = await read()
      const staged = await stage('new')
      await put(BEFORE.replace('"db"', '"db2"'))
      // Only over what the caller has read.
      await expect(place.backend.promote('acme', secret, staged, before)).rejects.toMatchObject({ code: 'conflict' })
      await place.backend.promote('acme', secret, staged, await read())
      expect(await text()).toBe(BEFORE.replace('"db"', '"db2"').replace('"old"', '"new"'))
      expect((await read()).token).toBe(TOKEN)
      expect(await place.backend.find('acme', secret, 'pending')).toBeUndefined()
      await put(BEFORE.replace('"db"', '"db3"').replace('"old"', '"new"'))
      for (let times = 0; times < 2; times += 1) {
        await place.backend.promote('acme', secret, before, await read())
        expect(await text()).toBe(BEFORE.replace('"db"', '"db3"'))
      }
      expect((await read()).token).toBe(before.token)
    })

    it('fault 96: a value that another writer sets in the field is not overwritten', async () => {
      const before = await read()
      const staged = await stage('new')
      const theirs = BEFORE.replace('"old"', '"of a person"')
      await put(theirs)
      await expect(place.backend.promote('acme', secret, staged, before)).rejects.toMatchObject({ code: 'conflict' })
      expect(await text()).toBe(theirs)
    })
  })
}
