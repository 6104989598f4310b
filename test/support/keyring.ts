/** A store and a keyring in a folder of their own. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { createSystemRandom } from '../../src/clock.ts'
import { keyFromText, newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../../src/foundation/crypto/keyring.ts'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import type { Store } from '../../src/foundation/store/store.ts'

export interface KeysAndStore {
  readonly folder: string
  readonly store: Store
  readonly envelope: Keyring
  readonly kekText: string
  /** Takes out what was written: a store that is used again costs nothing beside a thread and a schema for each test. */
  empty(): void
  close(): Promise<void>
}

/** What a store has before anything is written. */
const OF_THE_SCHEMA = ['schema_version', 'epochs']

export const startGround = async (): Promise<KeysAndStore> => {
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
    empty() {
      const database = new DatabaseSync(join(folder, 'deputy.db'))
      try {
        const tables = database.prepare("select name from sqlite_master where type = 'table'").all() as {
          name: string
        }[]
        for (const { name } of tables) if (!OF_THE_SCHEMA.includes(name)) database.exec(`delete from "${name}"`)
      } finally {
        database.close()
      }
    },
    async close() {
      await store.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
