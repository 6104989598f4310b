import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto'
import type { Random } from '#clock'

const NONCE = 12
const TAG = 16

/**
 * AES-256-GCM with a random 96-bit nonce (NIST SP 800-38D 8.2.2), as `nonce | ciphertext | tag`.
 * A key may seal 2^32 messages at most; a tenant's data key stays far below that.
 */
export const encrypt = (
  key: Uint8Array | KeyObject,
  plaintext: Uint8Array,
  additionalData: Uint8Array,
  random: Random,
): Buffer => {
  const nonce = random.bytes(NONCE)
  const cipher = createCipheriv('aes-256-gcm', key, nonce)
  cipher.setAAD(additionalData)
  return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
}

/** @throws Error when the key or the additional data is another one, or a bit was changed. */
export const decrypt = (key: Uint8Array | KeyObject, sealed: Uint8Array, additionalData: Uint8Array): Buffer => {
  if (sealed.length < NONCE + TAG) throw new Error('ciphertext too short')
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE), { authTagLength: TAG })
  decipher.setAAD(additionalData)
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG))
  return Buffer.concat([decipher.update(sealed.subarray(NONCE, sealed.length - TAG)), decipher.final()])
}
