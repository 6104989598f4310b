import { afterAll, beforeAll, expect, test } from 'vitest'
import { createClientConsents } from '../../src/flows/connect/client-consent.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { type KeysAndStore, startGround } from '../support/keyring.ts'

const key = new Secret(Buffer.alloc(32, 1).toString('base64'))
const owner = { tenant: 'acme', user: 'alice', server: 'notes', downstream: 'client:desk' }

let ground: KeysAndStore
beforeAll(async () => {
  ground = await startGround()
})
afterAll(() => ground?.close())

test('promise 8: a consent for a client that another program has written, changed or moved in the store is none', async () => {
  const { consents } = ground.store
  const remembered = createClientConsents(consents, key)
  await remembered.remember(owner, ['notes:read'], 1000)
  const written = (await consents.find(owner))!
  expect(await remembered.find(owner)).toEqual(written)
  expect(
    await createClientConsents(consents, new Secret(Buffer.alloc(32, 2).toString('base64'))).find(owner),
  ).toBeUndefined()
  const { proof: _, ...bare } = written
  const forged = [
    bare,
    { ...written, proof: '' },
    { ...written, granted: ['notes:read', 'notes:write'] },
    { ...written, at: 2000 },
    { ...written, until: written.until + 1 },
    { ...written, user: 'bob' },
    { ...written, server: 'other' },
    { ...written, tenant: 'globex' },
    { ...written, downstream: 'client:evil' },
  ]
  for (const row of forged) {
    await consents.put(row)
    expect(await remembered.find(row)).toBeUndefined()
  }
  await consents.put(written)
  expect(await remembered.find(owner)).toEqual(written)
})
