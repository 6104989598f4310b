import { createHash, generateKeyPairSync } from 'node:crypto'
import { calculateJwkThumbprint, SignJWT, type JWK } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createFingerprint } from '../../src/foundation/crypto/fingerprint.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createProofCheck, createResourceProofCheck } from '../../src/identity/workload/proof-of-possession.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'
import { aClock } from '../support/snapshot.ts'

const URL_ = 'https://deputy.example/oauth2/token'
const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const jwk = pair.publicKey.export({ format: 'jwk' }) as JWK
const clock = aClock()
let keysAndStore: KeysAndStore
let needsNonce = false
beforeAll(async () => {
  keysAndStore = await startGround()
})
afterAll(() => keysAndStore.close())

const check = (proof: string): Promise<string> =>
  createProofCheck({
    urls: () => [URL_],
    needsNonce: () => needsNonce,
    replays: keysAndStore.store.replays,
    fingerprint: createFingerprint(new Secret(Buffer.alloc(32).toString('base64'))),
    clock,
  })(proof).then(
    ({ jkt }) => jkt,
    (error: { code: string; facts: { nonce?: string; problem?: string } }) =>
      error.facts.nonce === undefined ? `${error.code}: ${error.facts.problem}` : `nonce ${error.facts.nonce}`,
  )
let count = 0
const prove = (claims: object = {}, header: object = {}, key = pair.privateKey): Promise<string> =>
  new SignJWT({ jti: `proof-${(count += 1)}`, htm: 'POST', htu: URL_, iat: Math.floor(clock.now() / 1000), ...claims })
    .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk, ...header } as never)
    .sign(key)

describe('a DPoP proof of a token request', () => {
  it('requirement 23: names the key by its thumbprint, as RFC 9449 does in its example', async () => {
    expect(
      await calculateJwkThumbprint({
        kty: 'EC',
        crv: 'P-256',
        x: 'l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs',
        y: '9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA',
      }),
    ).toBe('0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I')
    expect(createHash('sha256').update('Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU').digest('base64url')).toBe(
      'fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo',
    )
    expect(await check(await prove())).toBe(await calculateJwkThumbprint(jwk))
  })

  it('requirement 23: is for this method and this URL, however that is written', async () => {
    for (const htu of [
      `${URL_}?x=1#y`,
      'HTTPS://DEPUTY.example:443/oauth2/token',
      'https://deputy.example/a/../oauth2/token',
    ])
      expect(await check(await prove({ htu }))).toBe(await calculateJwkThumbprint(jwk))
    for (const htu of [
      'https://deputy.example/oauth2/introspect',
      'http://deputy.example/oauth2/token',
      'https://evil.example/oauth2/token',
      'not a url',
    ])
      expect(await check(await prove({ htu }))).toContain('its htu')
    expect(await check(await prove({ htm: 'GET' }))).toContain('its htm')
  })

  it('requirement 23: is good once, and for a minute', async () => {
    const proof = await prove()
    expect(await check(proof)).toHaveLength(43)
    expect(await check(proof)).toContain('it was used before')
    for (const iat of [-61, 31])
      expect(await check(await prove({ iat: Math.floor(clock.now() / 1000) + iat }))).toContain(
        'too long ago, or is from the future',
      )
  })

  it('threat 14: shows a public key of an asymmetric algorithm, and is signed by it', async () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const secret = pair.privateKey.export({ format: 'jwk' }) as JWK
    for (const [header, key] of [
      [{ typ: 'jwt' }, undefined],
      [{ jwk: secret }, undefined],
      [{ jwk: undefined }, undefined],
      [{ jwk: { kty: 'oct', k: 'AAAA' } }, undefined],
      [{}, other.privateKey],
    ] as const) {
      expect(await check(await prove({}, header, key ?? pair.privateKey))).toMatch(/^proof_invalid/)
    }
    const unsigned = (await prove()).split('.')
    for (const bad of [
      `${Buffer.from(JSON.stringify({ alg: 'none', typ: 'dpop+jwt', jwk })).toString('base64url')}.${unsigned[1]}.`,
      'x',
      '',
      `${'a'.repeat(9000)}.b.c`,
    ])
      expect(await check(bad)).toMatch(/^proof_invalid/)
    expect(await check(await prove({ jti: undefined }))).toContain('its claim jti')
  })

  it('requirement 23: carries a nonce of ours where one is wanted, for a while', async () => {
    needsNonce = true
    const given = (await check(await prove())).replace('nonce ', '')
    expect(await check(await prove({ nonce: given }))).toHaveLength(43)
    clock.forward(300_000)
    expect(await check(await prove({ nonce: given }))).toHaveLength(43)
    clock.forward(300_000)
    expect(await check(await prove({ nonce: given }))).toMatch(/^nonce /)
    expect(await check(await prove({ nonce: 'made up' }))).toMatch(/^nonce /)
    needsNonce = false
  })
})

describe('a DPoP proof of a request with an access token', () => {
  const token = new Secret('token-of-alice')
  const ath = createHash('sha256').update('token-of-alice').digest('base64url')
  const MCP = 'https://notes.example/mcp'
  /** Each node has a check of its own; they share the store. */
  const aNode = () => {
    const checkHere = createResourceProofCheck({
      needsNonce: () => false,
      replays: keysAndStore.store.replays,
      fingerprint: createFingerprint(new Secret(Buffer.alloc(32).toString('base64'))),
      clock,
    })
    return async (proof: string): Promise<string> =>
      checkHere({ proof, method: 'GET', urls: [MCP, 'http://localhost/mcp'], token }).then(
        ({ jkt }) => jkt,
        (error: { facts: { problem?: string } }) => String(error.facts.problem),
      )
  }

  it('threat 14: is for this token, method and URL, and is accepted once over all nodes', async () => {
    const [one, other] = [aNode(), aNode()]
    const right = { ath, htm: 'GET', htu: MCP }
    const proof = await prove(right)
    expect(await one(proof)).toBe(await calculateJwkThumbprint(jwk))
    expect(await other(proof)).toContain('used before')
    expect(await one(await prove({ ...right, htu: 'http://localhost/mcp?session=1' }))).toHaveLength(43)
    for (const [wrong, problem] of [
      [{ ath: undefined }, 'its ath'],
      [{ ath: `${ath}=` }, 'its ath'],
      [{ ath: createHash('sha256').update('another').digest('base64url') }, 'its ath'],
      [{ htm: 'POST' }, 'its htm is not GET'],
      [{ htm: 'get' }, 'its htm is not GET'],
      [{ htu: 'https://notes.example/mcp/' }, 'its htu'],
    ] as const)
      expect(await one(await prove({ ...right, ...wrong }))).toContain(problem)
  })

  it('a proof that is refused for another reason is not used up by it', async () => {
    const node = aNode()
    const proof = await prove({ ath, htm: 'GET', htu: MCP })
    expect(await check(proof)).toContain('its htm')
    expect(await node(proof)).toHaveLength(43)
  })
})
