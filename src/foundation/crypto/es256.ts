import { type KeyObject, sign, verify } from 'node:crypto'

/** Bytes of each of the two numbers of a signature on P-256. */
const HALF = 32
/** DER tags (ITU-T X.690). */
const [SEQUENCE, INTEGER] = [0x30, 0x02]

/**
 * Copies a DER integer of at most 32 bytes to the right end of its half.
 * @returns where the next one starts
 * @throws Error where it is not the one encoding of a number that is not negative (X.690 section 8.3.2)
 */
const copyInteger = (der: Uint8Array, start: number, half: Uint8Array): number => {
  const length = der[start + 1] ?? 0
  const [first, next] = [start + 2, start + 2 + length]
  const isPadded = der[first] === 0
  const isInteger = der[start] === INTEGER && length > 0 && length <= HALF + 1 && next <= der.length
  if (!isInteger || der[first]! >= 0x80 || (isPadded && length > 1 && der[first + 1]! < 0x80))
    throw new Error('the signature is not in DER')
  const digits = der.subarray(isPadded ? first + 1 : first, next)
  if (digits.length > HALF) throw new Error('a number of the signature is too large')
  half.set(digits, HALF - digits.length)
  return next
}

/**
 * The two numbers of a signature in DER (RFC 3279 section 2.2.3) in the form of RFC 7518 section 3.4. @throws Error for
 * any other text
 */
export const rawOfDer = (der: Uint8Array): Buffer => {
  // Two integers of 33 bytes at most: every length fits one byte.
  if (der[0] !== SEQUENCE || der[1] !== der.length - 2 || der.length > 2 + 2 * (HALF + 3))
    throw new Error('the signature is not in DER')
  const raw = Buffer.alloc(2 * HALF)
  const second = copyInteger(der, 2, raw.subarray(0, HALF))
  if (copyInteger(der, second, raw.subarray(HALF)) !== der.length) throw new Error('the signature is not in DER')
  return raw
}

/**
 * Writes a number as a DER integer, without needless zeros, and with one where the first bit is set. @returns where the
 * next one starts
 */
const writeInteger = (number: Uint8Array, der: Buffer, start: number): number => {
  let from = 0
  while (from < HALF - 1 && number[from] === 0) from += 1
  const sign = number[from]! >= 0x80 ? 1 : 0
  der[start] = INTEGER
  der[start + 1] = HALF - from + sign
  der.set(number.subarray(from), start + 2 + sign)
  return start + 2 + sign + HALF - from
}

/** A signature in the form of RFC 7518 section 3.4 as DER. @param raw 64 bytes */
export const derOfRaw = (raw: Uint8Array): Buffer => {
  const der = Buffer.alloc(2 + 2 * (HALF + 3))
  const end = writeInteger(raw.subarray(HALF), der, writeInteger(raw.subarray(0, HALF), der, 2))
  der[0] = SEQUENCE
  der[1] = end - 2
  return der.subarray(0, end)
}

/**
 * ES256 (RFC 7518 section 3.4) over the bytes. The signature is made as DER and rewritten here: with the option
 * `dsaEncoding: 'ieee-p1363'` node:crypto exports and reads the private key anew at every call, which costs more than
 * the signature.
 */
export const signEs256 = (privateKey: KeyObject, bytes: Uint8Array): Buffer =>
  rawOfDer(sign('sha256', bytes, privateKey))

/**
 * Whether the signature in the form of RFC 7518 section 3.4 is one of the bytes by the key; false for one of another
 * length.
 */
export const verifyEs256 = (publicKey: KeyObject, bytes: Uint8Array, signature: Uint8Array): boolean =>
  signature.length === 2 * HALF && verify('sha256', bytes, publicKey, derOfRaw(signature))

/** As `verifyEs256`, on a thread of libuv's. */
export const verifyEs256Aside = (publicKey: KeyObject, bytes: Uint8Array, signature: Uint8Array): Promise<boolean> =>
  new Promise((resolve) => {
    if (signature.length !== 2 * HALF) {
      resolve(false)
      return
    }
    verify('sha256', bytes, publicKey, derOfRaw(signature), (error, isValid) => {
      resolve(error === null && isValid)
    })
  })
