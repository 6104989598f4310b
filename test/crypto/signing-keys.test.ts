import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { OWN_TENANT } from '../../src/foundation/crypto/envelope.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { SigningKeys } from '../../src/foundation/keys/signing-keys.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'

let keysAndStore: KeysAndStore
beforeEach(async () => {
  keysAndStore = await startGround()
})
afterEach(async () => {
  await keysAndStore.close()
})
const open = (): Promise<SigningKeys> =>
  SigningKeys.open({
    store: keysAndStore.store.signingKeys,
    envelope: keysAndStore.envelope,
    clock: systemClock,
    lifetime: 3_600_000,
    longestToken: 60_000,
  })

it('fault 12: who can write the store gives a signing key no other purpose; keys of earlier versions go on', async () => {
  const keys = await open()
  const [token, checkpoint] = [keys.kid('token'), keys.kid('checkpoint')]
  const stored = await keysAndStore.store.signingKeys.list()
  const row = stored.find(({ kid }) => kid === checkpoint)!
  await keysAndStore.store.signingKeys.remove(checkpoint)
  await keysAndStore.store.signingKeys.put({ ...row, purpose: 'token' })
  for (const again of [keys, await open()]) {
    await again.refresh()
    expect(again.jwks('token').keys.map(({ kid }) => kid)).toEqual([token])
    expect(again.kid('checkpoint')).toBe(checkpoint)
  }

  // As a version before this one has sealed it.
  const name = { tenant: OWN_TENANT, kind: 'signing-key', id: token }
  const of = stored.find(({ kid }) => kid === token)!
  const { deputy_purpose: _, ...jwk } = JSON.parse((await keysAndStore.envelope.open(name, of.sealed)).reveal()) as {
    deputy_purpose: string
  }
  await keysAndStore.store.signingKeys.remove(token)
  await keysAndStore.store.signingKeys.put({
    ...of,
    sealed: await keysAndStore.envelope.seal(name, new Secret(JSON.stringify(jwk))),
  })
  expect((await open()).jwks('token').keys.map(({ kid }) => kid)).toEqual([token])
})
