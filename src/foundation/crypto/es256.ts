import { type KeyObject, sign, verify } from 'node:crypto'

/** Bytes of each of the two numbers of a signature on P-256. */
const HALF = 32
/** DER tags (ITU-T X.690). */
const [SEQUENCE, INTEGER] = [0x30, 0x02]

/** Where a DER integer stands in the signature. All lengths of P-256 fit one byte. */
const copyInteger = (der: Buffer, start: number, to: Buffer, end: number): number => {
  const length = der[start + 1]!
  const next = start + 2 + length
  // A number whose first bit is set has a zero before it; a small number has fewer bytes.
  const from = Math.max(start + 2, next - HALF)
  der.copy(to, end - (next - from), from, next)
  return next
}

/**
 * ES256 (RFC 7518 section 3.4) over the bytes. The signature is made as DER and rewritten here: with the option
 * `dsaEncoding: 'ieee-p1363'` node:crypto exports and reads the private key anew at every call, which costs more than
 * the signature.
 */
export const signEs256 = (privateKey: KeyObject, bytes: Uint8Array): Buffer => {
  const der = sign('sha256', bytes, privateKey)
  const signature = Buffer.alloc(2 * HALF)
  copyInteger(der, copyInteger(der, 2, signature, HALF), signature, 2 * HALF)
  return signature
}

/** A DER integer without needless zeros, and with one where the first bit is set. */
const integerOf = (number: Uint8Array): Buffer => {
  const first = number.findIndex((byte) => byte !== 0)
  const digits = first === -1 ? number.subarray(HALF - 1) : number.subarray(first)
  const sign = digits[0]! >= 0x80 ? [0] : []
  return Buffer.from([INTEGER, digits.length + sign.length, ...sign, ...digits])
}

/**
 * Whether the signature in the form of RFC 7518 section 3.4 is one of the bytes by the key; false for one of another
 * length.
 */
export const verifyEs256 = (publicKey: KeyObject, bytes: Uint8Array, signature: Uint8Array): boolean => {
  if (signature.length !== 2 * HALF) return false
  const integers = Buffer.concat([integerOf(signature.subarray(0, HALF)), integerOf(signature.subarray(HALF))])
  return verify('sha256', bytes, publicKey, Buffer.concat([Buffer.from([SEQUENCE, integers.length]), integers]))
}
