import { SigningKeys } from '../../src/foundation/keys/signing-keys.ts'
import { startGround } from './keyring.ts'

/** Keys that sign; where they were kept is gone when it resolves. */
export const someSigningKeys = async (): Promise<SigningKeys> => {
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
