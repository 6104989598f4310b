import { resolve } from 'node:path'
import type { Random } from './clock.ts'
import type { KeyEncryptionSettings } from './config/key-encryption.ts'
import { keyFromFile, keyFromText, withEarlierKeys, type KeyEncryptionKey } from './crypto/key-encryption-key.ts'
import { refuse } from './errors.ts'
import { openVault, type VaultSurroundings } from './secret/backends.ts'
import { transitKey } from './secret/vault/transit.ts'

const ID = 'kek'

/** The keys that wrap data keys, out of wherever the settings say they are. */
export interface KeyEncryption {
  /** Reads them anew: a file may have changed. @throws DeputyError `config_invalid` */
  read(): Promise<KeyEncryptionKey>
  close(): Promise<void>
}

/** @param earlier keys that have wrapped before: what they wrapped is opened, and wrapped anew by `deputy key rotate` */
export const openKeyEncryption = async (
  current: KeyEncryptionSettings,
  earlier: readonly KeyEncryptionSettings[],
  around: VaultSurroundings & { readonly random: Random },
): Promise<KeyEncryption> => {
  const closers: (() => Promise<void> | void)[] = []
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
      return () => Promise.resolve(transitKey({ id: ID, ...settings.vault, session }))
    }
    // Loaded where it is configured: no other daemon should pay for the SDK.
    const { createKmsClient, kmsKey } = await import('./secret/aws/kms.ts')
    const client = createKmsClient(settings.aws)
    closers.push(() => {
      client.destroy()
    })
    return () => Promise.resolve(kmsKey({ id: ID, key: settings.aws.key, client }))
  }
  const [first, ...others] = [await opened(current), ...(await Promise.all(earlier.map(opened)))] as [
    () => Promise<KeyEncryptionKey>,
    ...(() => Promise<KeyEncryptionKey>)[],
  ]
  return {
    read: async () => withEarlierKeys(await first(), await Promise.all(others.map((read) => read()))),
    async close() {
      for (const close of closers) await close()
    },
  }
}
