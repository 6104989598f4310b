import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Random } from '../clock.ts'
import { refuse } from '../errors.ts'
import { decrypt, encrypt } from './aead.ts'
import { assertPrivateFile, replaceFile } from './private-file.ts'

/** Wraps data keys of 32 bytes. Implementations: a file or variable here, Vault's transit engine, AWS KMS; tests: `test/conformance/key-encryption-key.ts`. */
export interface KeyEncryptionKey {
  /** Names the key that wraps now; it is kept beside what it wrapped. */
  readonly id: string
  /** Whether it may have a newer version under the same id, so that wrapping anew means something. */
  readonly hasVersions: boolean
  /** Whether it can open what the key of this id has wrapped. */
  knows(id: string): boolean
  /** @throws DeputyError `secret_backend_unavailable`, `secret_backend_refused`, where a service has to be asked */
  wrap(dataKey: Uint8Array, additionalData: Uint8Array): Promise<Uint8Array>
  /** @param id the key that had wrapped it: this one, or a previous one that is still known */
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

const localKey = (keys: readonly Uint8Array[], random: Random): KeyEncryptionKey => {
  const byId = new Map(keys.map((key) => [idOf(key), key]))
  const [current] = keys as [Uint8Array]
  return {
    id: idOf(current),
    hasVersions: false,
    knows: (id) => byId.has(id),
    wrap: (dataKey, additionalData) => Promise.resolve(encrypt(current, dataKey, additionalData, random)),
    unwrap: (id, wrapped, additionalData) =>
      new Promise((resolve) => {
        const key = byId.get(id)
        if (key === undefined) throw new Error(`wrapped by the unknown key-encryption key ${id}`)
        resolve(decrypt(key, wrapped, additionalData))
      }),
  }
}

/** A key that wraps, with others that have wrapped before it. */
export const withEarlierKeys = (current: KeyEncryptionKey, earlier: readonly KeyEncryptionKey[]): KeyEncryptionKey => ({
  ...current,
  knows: (id) => [current, ...earlier].some((key) => key.knows(id)),
  unwrap(id, wrapped, additionalData) {
    const key = [current, ...earlier].find((each) => each.knows(id)) ?? current
    return key.unwrap(id, wrapped, additionalData)
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
