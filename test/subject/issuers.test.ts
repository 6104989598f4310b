import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Snapshot } from '../../src/config/snapshot.ts'
import { ACCESS_TOKEN_TYPE } from '../../src/oauth/token-type.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { metadataUrls } from '../../src/identity/subject/issuer-metadata.ts'
import { anIssuerKey, startIssuerDouble, type IssuerDouble } from '../doubles/issuer.ts'
import { aClock, aServer, aSnapshot, aTenant } from '../support/snapshot.ts'
import { startSubjects, type Subjects } from '../support/subjects.ts'

const notes = aServer()
const HOUR = 3_600_000
let clock: ReturnType<typeof aClock>
let snapshot: Snapshot
let issuer: IssuerDouble
let subjects: Subjects
const start = async (path = ''): Promise<void> => {
  issuer = await startIssuerDouble(clock.now, path)
  snapshot = aSnapshot({ servers: [notes], tenants: [aTenant({ issuers: [{ issuer: issuer.url }] })] })
}
beforeEach(async () => {
  clock = aClock()
  subjects = await startSubjects({ snapshot: () => snapshot, clock, timeout: 400 })
  await start()
})
afterEach(async () => {
  await subjects.close()
  await issuer.close()
})

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'accepted',
    (error: { code: string }) => error.code,
  )
const verify = (token: string): Promise<string> =>
  codeOf(subjects.verifier.verify({ token: new Secret(token), tokenType: ACCESS_TOKEN_TYPE, server: notes }))
const fresh = async (key = issuer.keys[0]!): Promise<string> =>
  verify(await issuer.sign({ jti: String(Math.random()) }, {}, key))
const asked = (path: string): number => issuer.asked.filter((each) => each === path).length

describe('the metadata of an issuer', () => {
  it('requirement 10: is looked for in the order of the specification', () => {
    expect(metadataUrls('https://idp.example')).toEqual([
      'https://idp.example/.well-known/oauth-authorization-server',
      'https://idp.example/.well-known/openid-configuration',
    ])
    expect(metadataUrls('https://idp.example/realms/acme')).toEqual([
      'https://idp.example/.well-known/oauth-authorization-server/realms/acme',
      'https://idp.example/.well-known/openid-configuration/realms/acme',
      'https://idp.example/realms/acme/.well-known/openid-configuration',
    ])
  })

  it('requirement 10: is found at the last of those places too', async () => {
    await issuer.close()
    await start('/realms/acme')
    issuer.metadataPaths = ['/realms/acme/.well-known/openid-configuration']
    expect(await fresh()).toBe('accepted')
    expect(issuer.asked).toEqual([
      '/.well-known/oauth-authorization-server/realms/acme',
      '/.well-known/openid-configuration/realms/acme',
      '/realms/acme/.well-known/openid-configuration',
      '/jwks',
    ])
  })

  it('requirement 10: must be of that very issuer', async () => {
    for (const wrong of [`${issuer.url}/`, issuer.url.toUpperCase(), 'https://evil.example', undefined]) {
      issuer.metadata = { ...issuer.metadata, issuer: wrong }
      expect(await fresh()).toBe('issuer_not_understood')
      clock.forward(60_000)
    }
  })

  it('threat 6: cannot lead to where egress does not go', async () => {
    for (const uri of [
      'https://169.254.169.254/keys',
      'https://10.0.0.1/keys',
      'http://keys.example/',
      'file:///etc/passwd',
    ]) {
      issuer.metadata = { ...issuer.metadata, jwks_uri: uri }
      expect(await fresh()).toBe('issuer_unreachable')
      clock.forward(HOUR)
    }
  })
})

describe('fault 19: an issuer that is reached and not understood', () => {
  const failure = async (): Promise<{ code: string; message: string; facts: Record<string, unknown> }> =>
    subjects.verifier
      .verify({ token: new Secret(await issuer.sign({})), tokenType: ACCESS_TOKEN_TYPE, server: notes })
      .then(
        () => {
          throw new Error('it was accepted')
        },
        (error: unknown) => error as never,
      )

  it('is told with both names where they differ by a slash, and so for as long as it is not asked again', async () => {
    issuer.metadata = { ...issuer.metadata, issuer: `${issuer.url}/` }
    for (let count = 0; count < 2; count += 1) {
      const { code, message } = await failure()
      expect(code).toBe('issuer_not_understood')
      expect(message).toContain(`names ${issuer.url}/, the tenant's file ${issuer.url}`)
    }
  })

  it('is told with what it answered, without secrets', async () => {
    const token = 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl'
    issuer.raw.set('/jwks', { status: 200, type: 'text/html', body: `<html><b>Sign in</b> with ${token}</html>` })
    const { code, facts } = await failure()
    expect([code, facts['problem']]).toEqual(['issuer_not_understood', `its key set at ${issuer.url}/jwks is no JSON`])
    expect(facts['answered']).toBe('200 text/html Sign in with ***')
    clock.forward(60_000)
    issuer.raw.set('/jwks', { status: 404, type: 'application/json', body: `{"token":"${token}"}` })
    expect(await failure()).toMatchObject({
      code: 'issuer_not_understood',
      facts: { problem: expect.stringMatching(/answered 404/), answered: '404 application/json members token' },
    })
    clock.forward(60_000)
    issuer.raw.set('/jwks', { status: 200, type: 'application/json', body: '{"keys":"none"}' })
    expect((await failure()).facts['problem']).toMatch(/has no keys/)
  })

  it('is another error than one that cannot be reached, which names the cause', async () => {
    issuer.outage = 'refuse'
    expect(await failure()).toMatchObject({
      code: 'issuer_unreachable',
      facts: { problem: expect.stringMatching(/answered 503/) },
    })
    await issuer.close()
    clock.forward(60_000)
    expect(await failure()).toMatchObject({ code: 'issuer_unreachable', facts: { problem: 'ECONNREFUSED' } })
  })
})

describe('fault 17: keys of real issuers', () => {
  it('one that is replaced under the same kid is read at its first signature, and bad signatures do not flood the issuer', async () => {
    const old = anIssuerKey('same')
    issuer.keys = [old]
    expect(await fresh(old)).toBe('accepted')
    const next = anIssuerKey('same')
    issuer.keys = [next]
    clock.forward(11_000)
    expect([await fresh(next), await fresh(old)]).toEqual(['accepted', 'subject_token_invalid'])
    expect(asked('/jwks')).toBe(2)
    clock.forward(11_000)
    for (let count = 0; count < 20; count += 1) expect(await fresh(anIssuerKey('same'))).toBe('subject_token_invalid')
    expect(asked('/jwks')).toBe(3)
    expect(await fresh(next)).toBe('accepted')
  })

  it('the bundle of a SPIFFE trust domain is a key set: its keys of JWTs count, those of certificates do not', async () => {
    const [good] = issuer.keys
    issuer.keys = [{ ...good!, jwk: { ...good!.jwk, use: 'jwt-svid' } }]
    expect(await fresh()).toBe('accepted')
    issuer.keys = [{ ...good!, jwk: { ...good!.jwk, use: 'x509-svid' } }]
    clock.forward(700_000)
    expect(await fresh()).toBe('issuer_key_unknown')
    issuer.keys = [good!]
  })

  it('are judged one by one: an entry that is no key spoils no other', async () => {
    const [good] = issuer.keys
    for (const bad of [{ kid: 'x', use: 'sig' }, { kty: 7 }, null, 'key', [], { kty: 'OKP', crv: 'X9', x: '' }]) {
      issuer.raw.set('/jwks', {
        status: 200,
        type: 'application/json',
        body: JSON.stringify({ keys: [bad, good!.jwk] }),
      })
      expect([bad, await fresh()]).toEqual([bad, 'accepted'])
      clock.forward(700_000)
    }
    const broken = { ...good!.jwk, x: 'AAAA', y: 'AAAA' }
    issuer.raw.set('/jwks', {
      status: 200,
      type: 'application/json',
      body: JSON.stringify({ keys: [broken, good!.jwk] }),
    })
    expect(await fresh()).toBe('accepted')
  })
})

describe('the keys of an issuer', () => {
  it('are read once, also by many at the same time', async () => {
    expect(new Set(await Promise.all(Array.from({ length: 20 }, () => fresh())))).toEqual(new Set(['accepted']))
    await fresh()
    expect(issuer.asked).toEqual(['/.well-known/oauth-authorization-server', '/jwks'])
  })

  it('are followed when they rotate, and the old one counts as long as it is published', async () => {
    await fresh()
    const [old] = issuer.keys
    const next = anIssuerKey()
    issuer.keys = [next, old!]
    clock.forward(11_000)
    expect([await fresh(next), await fresh(old)]).toEqual(['accepted', 'accepted'])
    issuer.keys = [next]
    clock.forward(700_000)
    // A moment after they were read nobody knows whether that key is newer; then it is clear.
    expect([await fresh(next), await fresh(old)]).toEqual(['accepted', 'issuer_key_unknown'])
    clock.forward(11_000)
    expect([await fresh(next), await fresh(old)]).toEqual(['accepted', 'subject_token_invalid'])
  })

  it('fault 75: one that is new less than ten seconds means again in a moment, and not sign in again', async () => {
    await fresh()
    const next = anIssuerKey()
    issuer.keys = [next, ...issuer.keys]
    clock.forward(2000)
    const token = await issuer.sign({ jti: 'new' }, {}, next)
    expect(await verify(token)).toBe('issuer_key_unknown')
    clock.forward(9000)
    expect(await verify(token)).toBe('accepted')
    // Had it been signed long before the keys were read, its key would have been among them.
    const stranger = await issuer.sign({ iat: Math.floor(clock.now() / 1000) - 120 }, {}, anIssuerKey())
    expect(await verify(stranger)).toBe('subject_token_invalid')
    expect(asked('/jwks')).toBe(2)
  })

  it('are each tried for a token that names none, while several are published', async () => {
    const [old, next] = [issuer.keys[0]!, anIssuerKey()]
    issuer.keys = [old, next]
    const unnamed = async (key = old): Promise<string> =>
      verify(await issuer.sign({ jti: String(Math.random()) }, { kid: undefined }, key))
    expect([await unnamed(old), await unnamed(next), await unnamed(anIssuerKey())]).toEqual([
      'accepted',
      'accepted',
      'subject_token_invalid',
    ])
    expect(await verify(await issuer.sign({ exp: 1 }, { kid: undefined }, next))).toBe('subject_token_expired')
  })

  it('that are made up do not make the issuer be asked for each', async () => {
    await fresh()
    clock.forward(11_000)
    expect(await fresh(anIssuerKey())).toBe('subject_token_invalid')
    for (let at = 0; at < 20; at += 1) expect(await fresh(anIssuerKey())).toBe('issuer_key_unknown')
    expect(asked('/jwks')).toBe(2)
  })

  it('withdrawn by the issuer stop counting for tokens that were verified before', async () => {
    const token = await issuer.sign({ exp: Math.floor(clock.now() / 1000) + 7200 })
    expect(await verify(token)).toBe('accepted')
    issuer.keys = [anIssuerKey()]
    clock.forward(601_000)
    expect(await verify(token)).toBe('subject_token_invalid')
  })

  it.each(['refuse', 'hang'] as const)('survive an outage for a day, and no longer (%s)', async (outage) => {
    await fresh()
    issuer.outage = outage
    clock.forward(2 * HOUR)
    expect(await fresh()).toBe('accepted')
    for (let at = 0; at < 5; at += 1) {
      clock.forward(60_000)
      const before = performance.now()
      expect(await fresh()).toBe('accepted')
      expect(performance.now() - before).toBeLessThan(200)
    }
    clock.forward(20 * HOUR)
    expect(await fresh()).toBe('accepted')
    clock.forward(3 * HOUR)
    expect(await fresh()).toBe('issuer_unreachable')
  })

  it('fault 75: a hanging issuer costs the first caller one timeout, and the next ones none', async () => {
    issuer.outage = 'hang'
    const before = performance.now()
    expect(await fresh()).toBe('issuer_unreachable')
    expect(issuer.asked).toHaveLength(1)
    expect(performance.now() - before).toBeLessThan(800)
    expect([await fresh(), issuer.asked.length]).toEqual(['issuer_unreachable', 1])
  })

  it('are there again soon after an outage', async () => {
    issuer.outage = 'refuse'
    expect(await fresh()).toBe('issuer_unreachable')
    issuer.outage = undefined
    clock.forward(11_000)
    expect(await fresh()).toBe('accepted')
  })

  it('that cannot be used end in a refusal of the taxonomy', async () => {
    const broken = anIssuerKey()
    issuer.keys = [{ ...broken, jwk: { ...broken.jwk, x: 'AAAA', y: 'AAAA' } }]
    expect(await fresh(issuer.keys[0])).toBe('subject_token_invalid')
  })

  it("an outage is told as one, with the seconds to wait, and is not the caller's fault", async () => {
    issuer.outage = 'refuse'
    await expect(
      subjects.verifier.verify({
        token: new Secret(await issuer.sign({})),
        tokenType: ACCESS_TOKEN_TYPE,
        server: notes,
      }),
    ).rejects.toMatchObject({
      code: 'issuer_unreachable',
      facts: { issuer: issuer.url },
      kind: { status: 503, retryable: true },
      retryAfter: expect.any(Number),
    })
  })
})
