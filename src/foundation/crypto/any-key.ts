import {
  errors,
  jwtVerify,
  type CryptoKey,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  type JWTVerifyResult,
} from 'jose'
import { verifySignature } from './verify-jws.ts'

/** Header fields by which a JWT would bring its own key along, and extensions that are not known here (threat 14). */
const REFUSED_HEADERS = ['jwk', 'jku', 'x5u', 'x5c', 'crit']

/** The first field of a JWT's header for which it is refused whatever its signature is; undefined: none. */
export const refusedHeaderOf = (header: object): string | undefined => REFUSED_HEADERS.find((name) => name in header)

/** Keys that can be read anew. `reread` resolves to whether they were: not too often, so that bad signatures cannot be used to flood their source. */
export type RereadableKeys = JWTVerifyGetKey & { readonly reread?: () => Promise<boolean> }

/**
 * Verifies a JWT by a set of keys. One that names no key while several could be meant (`kid` is optional, RFC 7515
 * section 4.1.4) is tried with each of those, so that it survives the time in which an old key and its successor are
 * both published.
 * @throws jose's errors
 */
const tryEach = async <Result>(
  keys: JWTVerifyGetKey,
  verify: (key: JWTVerifyGetKey | CryptoKey) => Promise<Result>,
): Promise<Result> => {
  try {
    return await verify(keys)
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
    for await (const key of error) {
      try {
        return await verify(key)
      } catch (failure) {
        if (!(failure instanceof errors.JWSSignatureVerificationFailed)) throw failure
      }
    }
    throw new errors.JWSSignatureVerificationFailed()
  }
}

/** A signature that no key fits is worth one reading of the keys: some issuers replace a key under the `kid` that it had. */
const rereadOnce = async <Result>(
  keys: RereadableKeys,
  verify: (key: JWTVerifyGetKey | CryptoKey) => Promise<Result>,
): Promise<Result> => {
  try {
    return await tryEach(keys, verify)
  } catch (error) {
    if (!(error instanceof errors.JWSSignatureVerificationFailed) || (await keys.reread?.()) !== true) throw error
    return tryEach(keys, verify)
  }
}

/** Verifies signature and claims of a JWT by a set of keys. @throws jose's errors */
export const verifyByAnyKey = (
  token: string,
  keys: RereadableKeys,
  options: JWTVerifyOptions,
): Promise<JWTVerifyResult> =>
  rereadOnce(keys, (key) =>
    typeof key === 'function' ? jwtVerify(token, key, options) : jwtVerify(token, key, options),
  )

/** Verifies the signature of a JWT by a set of keys, and nothing else. @throws jose's errors */
export const verifySignatureByAnyKey = (
  token: string,
  keys: RereadableKeys,
  options: { readonly algorithms: string[] },
): Promise<void> => rereadOnce(keys, (key) => verifySignature(token, key, options))
