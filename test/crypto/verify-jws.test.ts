import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import * as fc from 'fast-check'
import { compactVerify, createLocalJWKSet, type JWK, type JWTVerifyGetKey } from 'jose'
import { expect, it } from 'vitest'
import { verifySignature } from '../../src/foundation/crypto/verify-jws.ts'

type Algorithm = 'ES256' | 'ES384' | 'RS256' | 'PS256' | 'EdDSA' | 'HS256'
const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve })
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const [p256, other, p384, ed] = [ec('P-256'), ec('P-256'), ec('P-384'), generateKeyPairSync('ed25519')]
const jwkOf = (key: KeyObject, more: object): JWK => ({ ...key.export({ format: 'jwk' }), ...more }) as JWK

/** Key sets: the plain case, and entries that do not fit a signature of ES256. */
const sets: Readonly<Record<string, JWTVerifyGetKey>> = Object.fromEntries(
  Object.entries({
    plain: [jwkOf(p256.publicKey, { kid: 'k', alg: 'ES256', use: 'sig' })],
    bare: [jwkOf(p256.publicKey, {})],
    two: [jwkOf(other.publicKey, {}), jwkOf(p256.publicKey, {})],
    encrypts: [jwkOf(p256.publicKey, { kid: 'k', use: 'enc' })],
    derives: [jwkOf(p256.publicKey, { kid: 'k', key_ops: ['deriveBits'] })],
    'of another alg': [jwkOf(p256.publicKey, { kid: 'k', alg: 'ES384' })],
    private: [jwkOf(p256.privateKey, { kid: 'k', alg: 'ES256' })],
    foreign: [jwkOf(other.publicKey, { kid: 'k', alg: 'ES256' })],
    mixed: [
      jwkOf(rsa.publicKey, { kid: 'k' }),
      jwkOf(p256.publicKey, { kid: 'k' }),
      jwkOf(p384.publicKey, { kid: 'k' }),
      jwkOf(ed.publicKey, { kid: 'k' }),
    ],
    'not on the curve': [{ ...jwkOf(p256.publicKey, { kid: 'k' }), y: randomBytes(32).toString('base64url') }],
    none: [],
  }).map(([name, keys]) => [name, createLocalJWKSet({ keys })]),
)

const part = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const FIXED = { dsaEncoding: 'ieee-p1363' } as const
const signed = (header: unknown, payload: unknown = { sub: 'alice' }, key = p256.privateKey): string => {
  const input = `${part(header)}.${part(payload)}`
  return `${input}.${sign('sha256', Buffer.from(input), { key, ...FIXED }).toString('base64url')}`
}
const ES256 = { alg: 'ES256', kid: 'k', typ: 'at+jwt' }
const good = signed(ES256)
const [head, body, signature] = good.split('.') as [string, string, string]
const raw = Buffer.from(signature, 'base64url')
const order = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex')
const zero = Buffer.alloc(32)
const withSignature = (...halves: Uint8Array[]): string =>
  `${head}.${body}.${Buffer.concat(halves).toString('base64url')}`
/** The other signature of the same text: (r, n - s) is as good as (r, s). */
const twin = Buffer.from(
  (BigInt(`0x${order.toString('hex')}`) - BigInt(`0x${raw.subarray(32).toString('hex')}`))
    .toString(16)
    .padStart(64, '0'),
  'hex',
)
const RSA = `${part({ ...ES256, alg: 'RS256' })}.${body}`
const EDDSA = `${part({ ...ES256, alg: 'EdDSA' })}.${body}`
const ES384 = `${part({ ...ES256, alg: 'ES384' })}.${body}`

const tokens: Readonly<Record<string, string>> = {
  good,
  'without kid': signed({ alg: 'ES256' }),
  'with another kid': signed({ ...ES256, kid: 'other' }),
  'with a kid that is no text': signed({ ...ES256, kid: 7 }),
  'with an empty payload': signed(ES256, ''),
  'with a payload that is no JSON': signed(ES256, 'text'),
  'of another key': signed(ES256, undefined, other.privateKey),
  'by its twin signature': withSignature(raw.subarray(0, 32), twin),
  'with r zero': withSignature(zero, raw.subarray(32)),
  'with s zero': withSignature(raw.subarray(0, 32), zero),
  'with both zero': withSignature(zero, zero),
  'with r the order': withSignature(order, raw.subarray(32)),
  'with s the order': withSignature(raw.subarray(0, 32), order),
  'with numbers above the order': withSignature(Buffer.alloc(64, 0xff)),
  'with its numbers changed over': withSignature(raw.subarray(32), raw.subarray(0, 32)),
  'in DER': withSignature(sign('sha256', Buffer.from(`${head}.${body}`), p256.privateKey)),
  'with a byte more': withSignature(raw, Buffer.alloc(1)),
  'with a byte less': withSignature(raw.subarray(0, 63)),
  'without a signature': `${head}.${body}.`,
  'with padding': `${good}==`,
  'with unused bits of the last character set': `${good.slice(0, -1)}${{ A: 'B', Q: 'R', g: 'h', w: 'x' }[good.at(-1)!]!}`,
  'in the alphabet of base64': `${head}.${body}.${raw.toString('base64').replace(/=+$/, '')}`,
  'with a space': `${head}.${body}.${signature.slice(0, 40)} ${signature.slice(40)}`,
  'with a line break': `${good}\n`,
  'of two parts': `${head}.${body}`,
  'of four parts': `${good}.${body}`,
  'of five parts': `${good}.a.b`,
  'of another header': `${part({ ...ES256, x: 1 })}.${body}.${signature}`,
  'of another payload': `${head}.${part({ sub: 'mallory' })}.${signature}`,
  'with a payload of an impossible length': `${head}.${body}A.${signature}`,
  'with a header that is no JSON': signed('text'),
  'with a header that is a list': signed([ES256]),
  'with a header that is null': signed(null),
  'with a header that is no UTF-8': `${Buffer.from('7b22ff223a317d', 'hex').toString('base64url')}.${body}.${signature}`,
  'with a byte order mark': signed(`\ufeff${JSON.stringify(ES256)}`),
  'with alg twice': signed('{"alg":"none","alg":"ES256","kid":"k"}'),
  'with alg twice, the other way round': signed('{"alg":"ES256","alg":"none","kid":"k"}'),
  'with alg none': `${part({ alg: 'none' })}.${body}.`,
  'with alg none and a signature': signed({ ...ES256, alg: 'none' }),
  'with alg es256': signed({ ...ES256, alg: 'es256' }),
  'with alg ES256K': signed({ ...ES256, alg: 'ES256K' }),
  'with alg as a list': signed({ ...ES256, alg: ['ES256'] }),
  'without alg': signed({ kid: 'k' }),
  'with alg by its prototype': signed('{"__proto__":{"alg":"ES256"},"kid":"k"}'),
  'with crit that is not known': signed({ ...ES256, crit: ['x'], x: 1 }),
  'with crit that is empty': signed({ ...ES256, crit: [] }),
  'with crit that is null': signed({ ...ES256, crit: null }),
  'with b64 false': signed({ ...ES256, crit: ['b64'], b64: false }),
  'with b64 true': signed({ ...ES256, crit: ['b64'], b64: true }),
  'with b64 that is not critical': signed({ ...ES256, b64: false }),
  'with a key of its own': signed({ ...ES256, jwk: jwkOf(other.publicKey, {}) }, undefined, other.privateKey),
  RS256: `${RSA}.${sign('sha256', Buffer.from(RSA), rsa.privateKey).toString('base64url')}`,
  'RS256 by the text of ES256': `${RSA}.${signature}`,
  EdDSA: `${EDDSA}.${sign(null, Buffer.from(EDDSA), ed.privateKey).toString('base64url')}`,
  ES384: `${ES384}.${sign('sha384', Buffer.from(ES384), { key: p384.privateKey, ...FIXED }).toString('base64url')}`,
  'ES256 by a key on P-384': signed(ES256, undefined, p384.privateKey),
  empty: '',
  dots: '..',
}

const outcomeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'accepted',
    (error: { code?: string; name: string }) => error.code ?? error.name,
  )
const both = async (
  token: string,
  keys: JWTVerifyGetKey,
  algorithms: Algorithm[],
): Promise<readonly [jose: string, ours: string]> => [
  await outcomeOf(compactVerify(token, keys, { algorithms })),
  await outcomeOf(verifySignature(token, keys, { algorithms })),
]
const ALL: Algorithm[] = ['ES256', 'RS256', 'EdDSA', 'ES384']

it('judges each token by each key set as jose does, also where ES256 is not allowed', async () => {
  const seen: string[] = []
  for (const [name, token] of Object.entries(tokens))
    for (const [set, keys] of Object.entries(sets))
      for (const algorithms of [ALL, ['ES256'], ['RS256']] satisfies Algorithm[][]) {
        const [jose, ours] = await both(token, keys, [...algorithms])
        expect([name, set, algorithms, ours]).toEqual([name, set, algorithms, jose])
        seen.push(ours)
      }
  expect(Object.keys(tokens).length).toBeGreaterThanOrEqual(55)
  expect(seen.filter((outcome) => outcome === 'accepted').length).toBeGreaterThan(40)
  expect(new Set(seen).size).toBeGreaterThan(5)
})

it('judges changed tokens as jose does', async () => {
  const change = fc.record({
    at: fc.nat(good.length),
    to: fc.constantFrom('', 'A', 'z', '-', '_', '.', '=', '+', ' ', 'é'),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
      let token = good
      for (const { at, to } of changes) token = token.slice(0, at) + to + token.slice(at + 1)
      const [jose, ours] = await both(token, sets['plain']!, ['ES256'])
      expect(ours).toBe(jose)
    }),
    { numRuns: 300 },
  )
})
