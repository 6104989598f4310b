import { Secret } from './secret.ts'

/**
 * Signs a compact JWS (RFC 7515 section 7.1) by hand: node's synchronous ES256 costs a sixth of what WebCrypto's asynchronous path
 * costs, and the claims are our own. Everything that verifies goes through `jose`.
 */
export const compactJws = (
  header: Readonly<Record<string, unknown>>,
  claims: Readonly<Record<string, unknown>>,
  sign: (input: Buffer) => Buffer,
): string => {
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const input = `${encode(header)}.${encode(claims)}`
  return `${input}.${sign(Buffer.from(input)).toString('base64url')}`
}

/** RFC 7515 section 7.1: three parts of base64url, without padding (section 2). */
const COMPACT = /^[\w-]+\.[\w-]+\.[\w-]*$/

/** Whether a text is a JWS in compact serialization, to the letter: decoders also take other texts for the same token. */
export const isCompactJws = (text: string): boolean => COMPACT.test(text)

/**
 * What identifies a token: header and payload of a JWS, which its signature covers. The signature itself is not part of
 * it, because one token can have several that are good. Of any other token it is the whole text.
 */
export const signedPartOf = (token: Secret): Secret => {
  const text = token.reveal()
  return isCompactJws(text) ? new Secret(text.slice(0, text.lastIndexOf('.'))) : token
}
