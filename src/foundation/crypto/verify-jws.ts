import { KeyObject } from 'node:crypto'
import {
  compactVerify,
  type CompactJWSHeaderParameters,
  type CryptoKey as Key,
  decodeProtectedHeader,
  errors,
  type JWTVerifyGetKey,
} from 'jose'
import { isCompactJws } from './compact-jws.ts'
import { verifyEs256Aside } from './es256.ts'

/** Characters of base64url for 64 bytes. */
const SIGNATURE_LENGTH = 86

interface Parts {
  readonly header: CompactJWSHeaderParameters
  readonly protected: string
  readonly payload: string
  readonly signature: string
}

/** The parts of a token that is signed by ES256 and has nothing unusual; undefined: it is for jose to judge. */
const es256Parts = (token: string, algorithms: readonly string[]): Parts | undefined => {
  if (!algorithms.includes('ES256') || !isCompactJws(token)) return undefined
  const [encodedHeader, payload, signature] = token.split('.') as [string, string, string]
  // A text of base64url never has one character more than a multiple of four.
  if (signature.length !== SIGNATURE_LENGTH || payload.length % 4 === 1) return undefined
  let header
  try {
    header = decodeProtectedHeader(token)
  } catch {
    return undefined
  }
  // Extensions change what is signed and how (RFC 7515 section 4.1.11, RFC 7797).
  if (header.alg !== 'ES256' || 'crit' in header || 'b64' in header) return undefined
  return { header: { ...header, alg: header.alg }, protected: encodedHeader, payload, signature }
}

const keyObjects = new WeakMap<Key, KeyObject>()

/** A public key on P-256 that may verify, as `node:crypto` takes it; undefined for every other. */
const p256KeyOf = (key: unknown): KeyObject | undefined => {
  if (!(key instanceof CryptoKey)) return undefined
  const known = keyObjects.get(key)
  if (known !== undefined) return known
  const { type, usages, algorithm } = key
  const curve = 'namedCurve' in algorithm ? algorithm.namedCurve : undefined
  if (type !== 'public' || !usages.includes('verify') || algorithm.name !== 'ECDSA' || curve !== 'P-256')
    return undefined
  const made = KeyObject.from(key)
  keyObjects.set(key, made)
  return made
}

/**
 * Verifies the signature of a compact JWS. jose reads the header, chooses the key among those of a set, and judges
 * everything that is not plain ES256. Only the computation is ours for that: WebCrypto, through which jose verifies,
 * copies the key for each signature, which costs the main thread three times as much as asking `node:crypto`.
 * @param key as jose takes it
 * @throws jose's errors
 */
export const verifySignature = async (
  token: string,
  key: JWTVerifyGetKey | Key,
  options: { readonly algorithms: string[] },
): Promise<void> => {
  const parts = es256Parts(token, options.algorithms)
  if (parts === undefined) {
    await (typeof key === 'function' ? compactVerify(token, key, options) : compactVerify(token, key, options))
    return
  }
  const { header, payload, signature } = parts
  const chosen = typeof key === 'function' ? await key(header, { protected: parts.protected, payload, signature }) : key
  const publicKey = p256KeyOf(chosen)
  if (publicKey === undefined) {
    // A key of another form or kind: jose converts it, or says why it does not fit.
    await compactVerify(token, chosen, options)
    return
  }
  const signed = Buffer.from(token.slice(0, token.length - SIGNATURE_LENGTH - 1), 'latin1')
  if (!(await verifyEs256Aside(publicKey, signed, Buffer.from(signature, 'base64url'))))
    throw new errors.JWSSignatureVerificationFailed()
}
