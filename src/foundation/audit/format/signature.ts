/** Signs with a key of this installation. @throws Error where there is none now */
export type Sign = (bytes: Uint8Array) => { readonly kid: string; readonly signature: Buffer }

/**
 * Whether a signature is one of the bytes by the key of this name; false for a key that is not of this installation.
 */
export type VerifySignature = (kid: string, bytes: Uint8Array, signature: Uint8Array) => boolean

/** What is added to what was signed. */
export interface Signature {
  readonly kid: string
  /** base64url. */
  readonly signature: string
}

export const signatureOf = (bytes: Uint8Array, sign: Sign): Signature => {
  const { kid, signature } = sign(bytes)
  return { kid, signature: signature.toString('base64url') }
}

export const isSignatureOf = (bytes: Uint8Array, { kid, signature }: Signature, verify: VerifySignature): boolean =>
  verify(kid, bytes, Buffer.from(signature, 'base64url'))
