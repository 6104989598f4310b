import { createHmac, createSecretKey, timingSafeEqual } from 'node:crypto'
import { lengthPrefixed } from './additional-data.ts'
import type { Secret } from './secret.ts'

/**
 * Names a token without giving it away: HMAC-SHA-256 under a key of this installation, 128 bits of it in base64url.
 * Two records about the same token can be found, and a guess cannot be tested without the key.
 */
export type Fingerprint = (token: Secret) => string

export const createFingerprint = (key: Secret): Fingerprint => {
  // Made once: of bytes node:crypto makes one for each call, which takes six times as long as the rest.
  const secret = createSecretKey(Buffer.from(key.reveal(), 'base64'))
  return (token) =>
    createHmac('sha256', secret)
      .update(lengthPrefixed('fingerprint', token.reveal()))
      .digest()
      .subarray(0, 16)
      .toString('base64url')
}

/** Keyed digests of several parts, the first of which says what they are for: HMAC-SHA-256 in base64url. */
export const createKeyedDigest = (key: Secret): ((purpose: string, ...parts: readonly string[]) => string) => {
  const secret = createSecretKey(Buffer.from(key.reveal(), 'base64'))
  return (...parts) =>
    createHmac('sha256', secret)
      .update(lengthPrefixed(...parts))
      .digest('base64url')
}

/** Whether two texts are equal, in a time that does not tell where they differ. Their lengths may be told. */
export const equalInConstantTime = (left: string, right: string): boolean => {
  const [a, b] = [Buffer.from(left), Buffer.from(right)]
  return a.length === b.length && timingSafeEqual(a, b)
}
