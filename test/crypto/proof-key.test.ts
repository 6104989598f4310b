import { decodeJwt, decodeProtectedHeader, EmbeddedJWK, jwtVerify } from 'jose'
import { describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { createProofKey, openProofKey, proofKeyText, signProof } from '../../src/foundation/crypto/proof-key.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createProofs } from '../../src/foundation/outbound/proofs.ts'

const deps = { clock: { now: () => 1_700_000_000_999 }, random: createSystemRandom() }

describe('a proof of a key', () => {
  it('requirement 23: is signed by the key that it shows, which is public, and is for one method and URL without query and fragment', async () => {
    const key = await createProofKey()
    const proof = signProof(key, { method: 'POST', url: 'https://as.example/token?a=b#c' }, undefined, deps)
    const { payload } = await jwtVerify(proof, EmbeddedJWK, {
      typ: 'dpop+jwt',
      algorithms: ['ES256'],
      currentDate: new Date(1_700_000_000_000),
    })
    expect(payload).toEqual({
      jti: expect.stringMatching(/^[\w-]{22}$/) as string,
      htm: 'POST',
      htu: 'https://as.example/token',
      iat: 1_700_000_000,
    })
    expect(Object.keys(decodeProtectedHeader(proof).jwk!).sort()).toEqual(['crv', 'kty', 'x', 'y'])
    expect(
      decodeJwt(signProof(key, { method: 'POST', url: 'https://as.example/token' }, undefined, deps)).jti,
    ).not.toBe(payload.jti)
  })

  it('requirement 23: names the token that it goes with by its digest (the vector of RFC 9449 section 7.1)', async () => {
    const proof = signProof(
      await createProofKey(),
      {
        method: 'GET',
        url: 'https://resource.example.org/protectedresource',
        accessToken: new Secret('Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU'),
      },
      'n',
      deps,
    )
    expect(decodeJwt(proof)).toMatchObject({ ath: 'fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo', nonce: 'n' })
  })

  it('a key that was kept is the same key', async () => {
    const key = await createProofKey()
    const again = await openProofKey(proofKeyText(key))
    expect([again.jkt, again.publicJwk]).toEqual([key.jkt, key.publicJwk])
    expect(JSON.stringify({ kept: proofKeyText(key) })).toBe('{"kept":"[secret]"}')
  })
})

describe('the nonces that servers want in proofs', () => {
  it('requirement 23: of each server the latest is used, and of no other server; what is none is not', async () => {
    const { prove, note } = createProofs(deps)
    const key = await createProofKey()
    const nonceAt = (url: string): unknown => decodeJwt(prove(key, { method: 'POST', url }))['nonce']
    expect([
      note('https://as.example/par', 'one'),
      note('https://as.example/token', 'two'),
      note('https://as.example:8443/token', 'port'),
    ]).toEqual([true, true, true])
    expect([
      nonceAt('https://as.example/other'),
      nonceAt('https://as.example:8443/'),
      nonceAt('https://else.example/'),
    ]).toEqual(['two', 'port', undefined])
    expect(
      [undefined, null, '', 'with space', 'with"quote', 'x'.repeat(513)].map((header) =>
        note('https://as.example/', header),
      ),
    ).toEqual([false, false, false, false, false, false])
    expect(nonceAt('https://as.example/')).toBe('two')
  })
})
