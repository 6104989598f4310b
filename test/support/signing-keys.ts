import { SigningKeys } from '../../src/foundation/keys/signing-keys.ts'
import { startGround } from './keyring.ts'

const make = async (): Promise<SigningKeys> => {
  const { store, envelope, close } = await startGround()
  try {
    return await SigningKeys.open({
      store: store.signingKeys,
      envelope,
      clock: { now: () => Date.now() },
      lifetime: 86_400_000,
      longestToken: 3_600_000,
    })
  } finally {
    await close()
  }
}

let keys: Promise<SigningKeys> | undefined

/** Keys that sign, the same ones for all tests of a worker: RSA keys cost more than a test. Where they were kept is gone. */
export const someSigningKeys = (): Promise<SigningKeys> => (keys ??= make())
