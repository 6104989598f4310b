/** A store and a keyring in a folder of their own. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createSystemRandom } from '../../src/clock.ts'
import { keyFromText, newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../../src/foundation/crypto/keyring.ts'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import type { Store } from '../../src/foundation/store/store.ts'

export interface Ground {
  readonly folder: string
  readonly store: Store
  readonly envelope: Keyring
  readonly kekText: string
  close(): Promise<void>
}

export const startGround = async (): Promise<Ground> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-ground-'))
  const random = createSystemRandom()
  const kekText = newKeyText(random)
  const store = await openSqliteStore({ path: join(folder, 'deputy.db') })
  const envelope = await Keyring.open({
    folder: join(folder, 'keys'),
    kek: keyFromText(kekText, 'test', random),
    random,
  })
  return {
    folder,
    store,
    envelope,
    kekText,
    async close() {
      await store.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
