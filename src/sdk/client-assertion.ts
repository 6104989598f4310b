import { createPrivateKey, randomUUID, sign, type JsonWebKey, type KeyObject } from 'node:crypto'

/** A key of the server, whose public half is in its file under `attest: [{ private_key_jwt: … }]`. */
export interface ClientKey {
  /** An EC key on P-256: PEM, JWK or a KeyObject. */
  readonly key: string | JsonWebKey | KeyObject
  /** Its `kid`, where the file has several keys. */
  readonly kid?: string
  /** Deputy's issuer (`issuer` in deputy.yaml): whom the assertion is for. */
  readonly issuer: string
}

const LIFETIME_S = 60

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

const keyOf = (key: ClientKey['key']): KeyObject =>
  typeof key === 'string'
    ? createPrivateKey(key)
    : 'asymmetricKeyType' in key
      ? (key as KeyObject)
      : createPrivateKey({ key: key as JsonWebKey, format: 'jwk' })

/** Signs client assertions (RFC 7523, ES256), each good for one request. @param now ms since the epoch */
export const createClientAssertion = (clientId: string, { key, kid, issuer }: ClientKey): ((now: number) => string) => {
  const privateKey = keyOf(key)
  const header = encode({ alg: 'ES256', typ: 'client-authentication+jwt', ...(kid === undefined ? {} : { kid }) })
  return (now) => {
    const iat = Math.floor(now / 1000)
    const signed = `${header}.${encode({ iss: clientId, sub: clientId, aud: issuer, iat, exp: iat + LIFETIME_S, jti: randomUUID() })}`
    return `${signed}.${sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
  }
}
