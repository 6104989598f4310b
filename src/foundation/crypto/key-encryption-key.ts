import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Random } from '#clock'
import { DeputyError, refuse } from '#errors'
import { assertPrivateFile, replaceFile } from '#foundation/files'
import { decrypt, encrypt } from './aead.ts'

/** What was wrapped, and the name of the key that has wrapped it, which is stored with it. */
export interface WrappedBytes {
  readonly id: string
  readonly bytes: Uint8Array
}

/** Wraps data keys of 32 bytes. Implementations: a file or variable here, Vault's transit engine, AWS KMS; tests: `test/conformance/key-encryption-key.ts`. */
export interface KeyEncryptionKey {
  /** Names the key that wraps now. */
  readonly id: string
  /** Whether it may have a newer version under the same id, so that wrapping anew means something. */
  readonly hasVersions: boolean
  /** Whether it can open what the key of this id has wrapped. */
  knows(id: string): boolean
  /** @throws DeputyError `key_service_unavailable`, `key_service_refused`, where a service has to be asked */
  wrap(dataKey: Uint8Array, additionalData: Uint8Array): Promise<WrappedBytes>
  /**
   * @param id what `wrap` has answered with it
   * @throws DeputyError as `wrap`; any other error: it fails authentication, so that no key opens it any more
   */
  unwrap(id: string, wrapped: Uint8Array, additionalData: Uint8Array): Promise<Uint8Array>
}

/** The id of a key is derived from it, so that two keys never share one: the first 8 bytes of SHA-256, in hex. */
const idOf = (key: Uint8Array): string =>
  createHash('sha256').update('deputy kek id').update(key).digest('hex').slice(0, 16)

const parseKeys = (text: string, from: string): Uint8Array[] => {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
  const keys = lines.map((line) => Buffer.from(line, 'base64'))
  if (keys.length === 0 || keys.some((key, at) => key.length !== 32 || key.toString('base64') !== lines[at])) {
    throw refuse('config_invalid', {
      problem: `the key-encryption key in ${from} must be 32 bytes in base64, one key a line, the current one first`,
    })
  }
  return keys
}

const unknownKey = (id: string): DeputyError =>
  refuse('key_service_refused', {
    problem: `a data key was wrapped by the key-encryption key ${id}, and neither kek nor kek_earlier names that`,
  })

const localKey = (keys: readonly Uint8Array[], random: Random): KeyEncryptionKey => {
  const byId = new Map(keys.map((key) => [idOf(key), key]))
  const [current] = keys as [Uint8Array]
  return {
    id: idOf(current),
    hasVersions: false,
    knows: (id) => byId.has(id),
    wrap: (dataKey, additionalData) =>
      Promise.resolve({ id: idOf(current), bytes: encrypt(current, dataKey, additionalData, random) }),
    unwrap: (id, wrapped, additionalData) =>
      new Promise((resolve) => {
        const key = byId.get(id)
        if (key === undefined) throw unknownKey(id)
        resolve(decrypt(key, wrapped, additionalData))
      }),
  }
}

/**
 * A key that wraps, with others that have wrapped before it. Two may know the same id, such as keys of one name in two
 * Vaults:
 * each that does is tried.
 */
export const withEarlierKeys = (current: KeyEncryptionKey, earlier: readonly KeyEncryptionKey[]): KeyEncryptionKey => ({
  ...current,
  knows: (id) => [current, ...earlier].some((key) => key.knows(id)),
  async unwrap(id, wrapped, additionalData) {
    const failures: unknown[] = []
    for (const key of [current, ...earlier].filter((each) => each.knows(id))) {
      try {
        return await key.unwrap(id, wrapped, additionalData)
      } catch (error) {
        failures.push(error)
      }
    }
    // One that could not say whether it opens it may still do so.
    throw failures.find((error) => error instanceof DeputyError) ?? failures[0] ?? unknownKey(id)
  },
})

/** The key-encryption key out of an environment variable's value: base64, the current key first, earlier ones on further lines. */
export const keyFromText = (text: string, from: string, random: Random): KeyEncryptionKey =>
  localKey(parseKeys(text, from), random)

/** The key-encryption key out of a file. @throws DeputyError `config_invalid` when others can read the file or it holds no key */
export const keyFromFile = async (path: string, random: Random): Promise<KeyEncryptionKey> => {
  await assertPrivateFile(path)
  return keyFromText(await readFile(path, 'utf8'), path, random)
}

/** A fresh key in the form that the file has. */
export const newKeyText = (random: Random): string => `${Buffer.from(random.bytes(32)).toString('base64')}\n`

/** Puts a fresh key before those in the file; the earlier ones stay until every data key has been rewrapped. */
export const prependKey = async (path: string, random: Random): Promise<void> => {
  await assertPrivateFile(path)
  await replaceFile(path, newKeyText(random) + (await readFile(path, 'utf8')))
}

/** Drops every key but the current one from the file. */
export const dropEarlierKeys = async (path: string): Promise<void> => {
  const [current] = parseKeys(await readFile(path, 'utf8'), path) as [Uint8Array]
  await replaceFile(path, `${Buffer.from(current).toString('base64')}\n`)
}
