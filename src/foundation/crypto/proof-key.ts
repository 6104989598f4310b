import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { calculateJwkThumbprint, type JWK } from 'jose'
import { type Clock, type Random, toSeconds } from '#clock'
import { randomText } from './random-text.ts'
import { compactJws } from './compact-jws.ts'
import { signEs256 } from './es256.ts'
import { Secret } from './secret.ts'

/** A key of Deputy's own, to which the tokens of one grant are bound, or a single token that comes without one (RFC 9449). */
export interface ProofKey {
  readonly privateKey: KeyObject
  readonly publicJwk: JWK
  /** Its thumbprint (RFC 7638): how tokens name it. */
  readonly jkt: string
}

const ofPrivateKey = async (privateKey: KeyObject): Promise<ProofKey> => {
  const publicJwk = createPublicKey(privateKey).export({ format: 'jwk' }) as JWK
  return { privateKey, publicJwk, jkt: await calculateJwkThumbprint(publicJwk) }
}

/** For ES256, which RFC 9449 section 11.6 leaves to servers, and all of them take. */
export const createProofKey = (): Promise<ProofKey> =>
  ofPrivateKey(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey)

/** The key as it is stored, sealed, together with what is bound to it. */
export const proofKeyText = ({ privateKey }: ProofKey): Secret =>
  new Secret(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())

export const openProofKey = (kept: Secret): Promise<ProofKey> => ofPrivateKey(createPrivateKey(kept.reveal()))

/** The request that a proof is for. */
export interface ProvedRequest {
  readonly method: string
  /** Query and fragment are left out of the proof. */
  readonly url: string
  /** The token that the request presents; undefined where it asks for one. */
  readonly accessToken?: Secret
}

/** A proof for one request (RFC 9449 section 4.2). @param nonce the one that the server wants in it */
export const signProof = (
  { privateKey, publicJwk }: ProofKey,
  { method, url, accessToken }: ProvedRequest,
  nonce: string | undefined,
  { clock, random }: { readonly clock: Clock; readonly random: Random },
): string =>
  compactJws(
    { typ: 'dpop+jwt', alg: 'ES256', jwk: publicJwk },
    {
      jti: randomText(random, 16),
      htm: method,
      htu: url.replace(/[?#].*$/s, ''),
      iat: toSeconds(clock.now()),
      ...(accessToken === undefined
        ? {}
        : { ath: createHash('sha256').update(accessToken.reveal()).digest('base64url') }),
      ...(nonce === undefined ? {} : { nonce }),
    },
    (input) => signEs256(privateKey, input),
  )
