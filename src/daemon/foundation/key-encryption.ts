import { resolve } from 'node:path'
import type { Random } from '#clock'
import type { KeyEncryptionSettings } from '#config'
import {
  loadKms,
  openVault,
  transitKey,
  type VaultSurroundings,
  type WatchedKey,
  watchKeyService,
} from '#credentials/secret'
import { refuse } from '#errors'
import { type KeyEncryptionKey, keyFromFile, keyFromText, withEarlierKeys } from '#foundation/crypto'

const ID = 'kek'

/** The keys that wrap data keys, out of wherever the settings say they are. */
export interface KeyEncryption {
  /** Reads them anew: a file may have changed. @throws DeputyError `config_invalid` */
  read(): Promise<KeyEncryptionKey>
  /** How the key service that wraps is, for admins: `ok`, or what is wrong; undefined where there is none. */
  status(): Promise<string | undefined>
  close(): Promise<void>
}

/** @param earlier keys that have wrapped before: what they wrapped is opened, and wrapped anew by `deputy key rotate` */
export const openKeyEncryption = async (
  current: KeyEncryptionSettings,
  earlier: readonly KeyEncryptionSettings[],
  around: VaultSurroundings & { readonly random: Random },
): Promise<KeyEncryption> => {
  const closers: (() => Promise<void> | void)[] = []
  let service: WatchedKey | undefined
  const watched = (key: KeyEncryptionKey): KeyEncryptionKey => {
    const watching = watchKeyService(key, around.monotonic)
    service ??= watching
    return watching
  }
  /** What asks a key service is opened once; what is in files is read each time. */
  const opened = async (settings: KeyEncryptionSettings): Promise<() => Promise<KeyEncryptionKey>> => {
    if ('file' in settings) return () => keyFromFile(resolve(around.home, settings.file), around.random)
    if ('env' in settings) {
      const text = around.environment[settings.env]
      if (text === undefined || text === '')
        throw refuse('config_invalid', {
          problem: `the environment variable ${settings.env} holds no key-encryption key`,
        })
      return () => Promise.resolve(keyFromText(text, `the environment variable ${settings.env}`, around.random))
    }
    if ('vault' in settings) {
      const session = await openVault(ID, settings.vault, around)
      closers.push(() => session.close())
      const key = watched(transitKey({ id: ID, ...settings.vault, session }))
      return () => Promise.resolve(key)
    }
    const { createKmsClient, kmsKey } = await loadKms()
    const client = createKmsClient(settings.aws)
    closers.push(() => {
      client.destroy()
    })
    const key = watched(kmsKey({ id: ID, key: settings.aws.key, client }))
    return () => Promise.resolve(key)
  }
  const first = await opened(current)
  const wraps = service
  const others = await Promise.all(earlier.map(opened))
  return {
    read: async () => withEarlierKeys(await first(), await Promise.all(others.map((read) => read()))),
    status: async () => (wraps === undefined ? undefined : ((await wraps.problem()) ?? 'ok')),
    async close() {
      for (const close of closers) await close()
    },
  }
}
