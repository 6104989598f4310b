/** A store that is borrowed, and a keyring in a folder of its own. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createSystemRandom } from '../../src/clock.ts'
import { keyFromText, newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../../src/foundation/crypto/keyring.ts'
import type { Store } from '../../src/foundation/store/store.ts'
import { borrowStore } from './stores.ts'

export interface KeysAndStore {
  readonly folder: string
  readonly store: Store
  readonly envelope: Keyring
  readonly kekText: string
  /** Takes out what was written: a store that is used again costs nothing beside a thread and a schema for each test. */
  empty(): void
  close(): Promise<void>
}

export const startGround = async (): Promise<KeysAndStore> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-ground-'))
  const random = createSystemRandom()
  const kekText = newKeyText(random)
  const borrowed = await borrowStore()
  const { store } = borrowed
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
    empty: borrowed.empty,
    async close() {
      await borrowed.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
