import { generateKeyPairSync, sign, verify } from 'node:crypto'
import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { derOfRaw, rawOfDer, signEs256, verifyEs256, verifyEs256Aside } from '../../src/foundation/crypto/es256.ts'

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const FIXED = { dsaEncoding: 'ieee-p1363' } as const

it('signs and verifies in the form of RFC 7518, also where a number of the signature is small', () => {
  let small = 0
  for (let at = 0; small < 2; at += 1) {
    const bytes = Buffer.from(`message ${at}`)
    const made = signEs256(privateKey, bytes)
    expect(made).toHaveLength(64)
    expect(verify('sha256', bytes, { key: publicKey, ...FIXED }, made)).toBe(true)
    expect(verifyEs256(publicKey, bytes, sign('sha256', bytes, { key: privateKey, ...FIXED }))).toBe(true)
    if (made[0] === 0 || made[32] === 0) small += 1
  }
})

it('takes no signature of other bytes, of another form, or of numbers out of range', async () => {
  const bytes = Buffer.from('message')
  const made = signEs256(privateKey, bytes)
  const order = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex')
  const forged = [
    Buffer.concat([Buffer.alloc(32), made.subarray(32)]),
    Buffer.concat([made.subarray(0, 32), Buffer.alloc(32)]),
    Buffer.alloc(64),
    Buffer.concat([order, order]),
    Buffer.alloc(64, 0xff),
    Buffer.concat([made, Buffer.alloc(1)]),
    made.subarray(1),
    Buffer.alloc(0),
    sign('sha256', bytes, privateKey),
  ]
  for (const signature of forged) {
    expect(verifyEs256(publicKey, bytes, signature)).toBe(false)
    expect(await verifyEs256Aside(publicKey, bytes, signature)).toBe(false)
  }
  expect(verifyEs256(publicKey, Buffer.from('other'), made)).toBe(false)
  expect(verifyEs256(publicKey, bytes, made)).toBe(true)
  expect(await verifyEs256Aside(publicKey, bytes, made)).toBe(true)
})

/** DER of two numbers by the rules alone, from the numbers. */
const derOf = (r: bigint, s: bigint): Buffer => {
  const integer = (value: bigint): Buffer => {
    const digits = value.toString(16)
    const hex = digits.length % 2 === 0 ? digits : `0${digits}`
    const bytes = Buffer.from(Number.parseInt(hex.slice(0, 2), 16) >= 0x80 ? `00${hex}` : hex, 'hex')
    return Buffer.concat([Buffer.from([2, bytes.length]), bytes])
  }
  const both = Buffer.concat([integer(r), integer(s)])
  return Buffer.concat([Buffer.from([0x30, both.length]), both])
}
const half = (value: bigint): Buffer => Buffer.from(value.toString(16).padStart(64, '0'), 'hex')
/** Numbers of any length, with the first bit of their first byte set and not. */
const aNumber = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 256n - 1n }),
  fc
    .tuple(fc.nat(255), fc.boolean())
    .map(([bits, isFull]) => (isFull ? 2n ** BigInt(bits + 1) - 1n : 2n ** BigInt(bits))),
  fc.constant(0n),
)

it('rewrites a signature between DER and the form of RFC 7518, whatever its numbers are', () => {
  fc.assert(
    fc.property(aNumber, aNumber, (r, s) => {
      const [der, raw] = [derOf(r, s), Buffer.concat([half(r), half(s)])]
      expect(derOfRaw(raw)).toEqual(der)
      expect(rawOfDer(der)).toEqual(raw)
    }),
  )
})

it('takes nothing for DER but the one encoding of two numbers that fit', () => {
  const inSequence = (...bytes: number[]): Buffer => Buffer.from([0x30, bytes.length, ...bytes])
  const long = Array.from({ length: 33 }, () => 1)
  const malformed: Readonly<Record<string, Buffer>> = {
    empty: Buffer.alloc(0),
    'another tag': Buffer.from([0x31, 6, 2, 1, 1, 2, 1, 1]),
    'a length that is too short': Buffer.from([0x30, 5, 2, 1, 1, 2, 1, 1]),
    'a length that is too long': Buffer.from([0x30, 7, 2, 1, 1, 2, 1, 1]),
    'a length of two bytes': Buffer.from([0x30, 0x81, 6, 2, 1, 1, 2, 1, 1]),
    'bytes after it': Buffer.from([0x30, 6, 2, 1, 1, 2, 1, 1, 0]),
    'bytes after its numbers': inSequence(2, 1, 1, 2, 1, 1, 0),
    'three numbers': inSequence(2, 1, 1, 2, 1, 1, 2, 1, 1),
    'one number': inSequence(2, 1, 1),
    'no numbers': inSequence(),
    'a negative number': inSequence(2, 1, 0x80, 2, 1, 1),
    'a second negative number': inSequence(2, 1, 1, 2, 1, 0xff),
    'a needless zero': inSequence(2, 2, 0, 1, 2, 1, 1),
    'a number without bytes': inSequence(2, 0, 2, 1, 1),
    'a number with another tag': inSequence(3, 1, 1, 2, 1, 1),
    'a number that ends after the sequence': inSequence(2, 1, 1, 2, 9, 1),
    'a number of 33 bytes': inSequence(2, 33, ...long, 2, 1, 1),
    'a number of 34 bytes': inSequence(2, 34, 0, 0x80, ...long.slice(1), 2, 1, 1),
  }
  for (const [name, der] of Object.entries(malformed)) expect(() => rawOfDer(der), name).toThrow(/DER|too large/)
  fc.assert(
    fc.property(aNumber, aNumber, fc.uint8Array({ minLength: 1, maxLength: 4 }), (r, s, more) => {
      const der = derOf(r, s)
      expect(() => rawOfDer(Buffer.concat([der, more]))).toThrow()
      expect(() => rawOfDer(der.subarray(0, -1))).toThrow()
    }),
  )
})
