import { z } from 'zod'
import type { KeyEncryptionKey } from '#foundation/crypto'
import { rawWords, readVault, vaultWords } from './client.ts'
import type { VaultSession } from './session.ts'

const encryptedSchema = z.object({ data: z.object({ ciphertext: z.string().startsWith('vault:v') }) })
const decryptedSchema = z.object({ data: z.object({ plaintext: z.base64() }) })

/** What transit says of a ciphertext that was changed, or wrapped for another tenant or by another key (400). */
const UNAUTHENTIC = /message authentication failed|invalid ciphertext/

/**
 * A key in Vault's transit engine (https://developer.hashicorp.com/vault/api-docs/secret/transit). Its own `datakey` and
 * `rewrap` take no associated data, so what they make could be moved to another tenant; data keys are made here, and wrapped
 * with `encrypt`, which binds them to their tenant. To wrap anew is to decrypt and encrypt under the newest version of the key.
 */
export const transitKey = (options: {
  id: string
  mount: string
  key: string
  session: VaultSession
}): KeyEncryptionKey => {
  const { id, mount, key, session } = options
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')
  return {
    id: `vault:${mount}/${key}`,
    hasVersions: true,
    knows: (other) => other === `vault:${mount}/${key}`,
    async wrap(dataKey, additionalData) {
      const answer = await session.ask({
        method: 'POST',
        path: `${mount}/encrypt/${key}`,
        body: { plaintext: base64(dataKey), associated_data: base64(additionalData) },
      })
      const { ciphertext } = readVault(id, answer, encryptedSchema).data
      return { id: `vault:${mount}/${key}`, bytes: Buffer.from(ciphertext) }
    },
    async unwrap(_id, wrapped, additionalData) {
      const answer = await session.ask({
        method: 'POST',
        path: `${mount}/decrypt/${key}`,
        body: { ciphertext: Buffer.from(wrapped).toString('utf8'), associated_data: base64(additionalData) },
      })
      if (answer.status === 400 && UNAUTHENTIC.test(rawWords(answer))) throw new Error(vaultWords(answer))
      return Buffer.from(readVault(id, answer, decryptedSchema).data.plaintext, 'base64')
    },
  }
}
