import { generateKeyPairSync, sign, verify } from 'node:crypto'
import { expect, it } from 'vitest'
import { signEs256, verifyEs256 } from '../../src/foundation/crypto/es256.ts'

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

it('takes no signature of other bytes, of another form, or of numbers out of range', () => {
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
  for (const signature of forged) expect(verifyEs256(publicKey, bytes, signature)).toBe(false)
  expect(verifyEs256(publicKey, Buffer.from('other'), made)).toBe(false)
  expect(verifyEs256(publicKey, bytes, made)).toBe(true)
})
