import { createHmac, randomUUID, type KeyObject } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SignJWT, UnsecuredJWT } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import type { Store } from '../../src/foundation/store/store.ts'
import { createAttestor, type Attest } from '../../src/identity/workload/attest.ts'
import type { CallerEvidence, PeerProcess } from '../../src/identity/workload/caller-evidence.ts'
import { parseStoredHash } from '../../src/config/client-secret-hash.ts'
import { hashClientSecret } from '../../src/identity/workload/client-secret.ts'
import { parseStartTime } from '../../src/identity/workload/peer-credentials.ts'
import { overlappingServers, registryOf } from '../../src/identity/workload/registry.ts'
import { anIssuerKey } from '../doubles/issuer.ts'
import { aClock, aServer, aSnapshot, noExecSessions } from '../support/snapshot.ts'
import { borrowStore, type BorrowedStore } from '../support/stores.ts'

const ISSUER = 'https://deputy.example'
const random = createSystemRandom()
const key = anIssuerKey('key')
const peer: PeerProcess = { pid: 4242, uid: 1000, gid: 1000 }
const unix = (selector: object): object => ({ attest: [{ unix: selector }] })

let folder: string
let borrowed: BorrowedStore
let store: Store
let attest: Attest
let clock: ReturnType<typeof aClock>
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'deputy-attest-'))
  borrowed = await borrowStore()
  store = borrowed.store
  clock = aClock()
  attest = createAttestor({
    exec: noExecSessions,
    replays: store.replays,
    unknownCallers: store.unknownCallers,
    clock,
    random,
    telemetry: noTelemetry,
    clusterKeys: () => () => Promise.reject(new Error('no cluster')),
    audiences: () => [ISSUER, `${ISSUER}/oauth2/token`],
  })
})
afterEach(async () => {
  await borrowed.close()
  rmSync(folder, { recursive: true, force: true })
})

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'accepted',
    (error: { code: string }) => error.code,
  )
const assertion = (claims: object = {}, header: object = {}, signer: KeyObject = key.privateKey): Promise<string> => {
  const now = Math.floor(clock.now() / 1000)
  return new SignJWT({ iss: 'notes', sub: 'notes', aud: ISSUER, exp: now + 60, jti: randomUUID(), ...claims })
    .setProtectedHeader({ alg: 'ES256', kid: 'key', ...header })
    .sign(signer)
}
const byKey = aSnapshot({
  servers: [
    aServer({ attest: [{ private_key_jwt: { jwks: { keys: [key.jwk] } } }] }),
    aServer({ server: 'other', resource: 'urn:other' }),
  ],
})
const proved = async (claims: object = {}, header: object = {}): Promise<string> =>
  codeOf(attest({ clientAssertion: await assertion(claims, header) }, byKey))

describe('attestation by the kernel', () => {
  it('takes a process for the server whose selector fits it', async () => {
    const snapshot = aSnapshot({
      servers: [
        aServer(unix({ uid: 1000 })),
        aServer({ server: 'other', resource: 'urn:other', ...unix({ uid: 1001 }) }),
      ],
    })
    expect(await attest({ peer }, snapshot)).toMatchObject({ server: { server: 'notes' }, method: 'unix' })
    expect(await codeOf(attest({ peer: { ...peer, uid: 1002 } }, snapshot))).toBe('workload_unknown')
  })

  it('wants every part of a selector to fit, and what could not be read fits nothing', async () => {
    const digest = 'a'.repeat(64)
    const snapshot = aSnapshot({
      servers: [aServer(unix({ uid: 1000, gid: 1000, exe: '/usr/bin/notes', sha256: digest }))],
    })
    const whole = { ...peer, exe: '/usr/bin/notes', sha256: digest }
    expect(await codeOf(attest({ peer: whole }, snapshot))).toBe('accepted')
    const { sha256: _digest, ...unread } = whole
    for (const wrong of [
      { ...whole, uid: 1 },
      { ...whole, gid: 1 },
      { ...whole, exe: '/usr/bin/other' },
      { ...whole, sha256: 'b'.repeat(64) },
      unread,
      peer,
    ]) {
      expect(await codeOf(attest({ peer: wrong }, snapshot))).toBe('workload_unknown')
    }
  })

  it('wants client_id where several servers fit, and takes no other than those', async () => {
    const snapshot = aSnapshot({
      servers: [
        aServer(unix({ uid: 1000 })),
        aServer({ server: 'two', resource: 'urn:two', ...unix({ uid: 1000 }) }),
        aServer({ server: 'three', resource: 'urn:three', ...unix({ uid: 7 }) }),
      ],
    })
    expect(await codeOf(attest({ peer }, snapshot))).toBe('workload_ambiguous')
    expect(await attest({ peer, clientId: 'two' }, snapshot)).toMatchObject({ server: { server: 'two' } })
    expect(await codeOf(attest({ peer, clientId: 'three' }, snapshot))).toBe('workload_unknown')
    expect(overlappingServers(snapshot).map((pair) => pair.map(({ server }) => server))).toEqual([['notes', 'two']])
  })

  it('a retired server does not stand in the way of the one that took its place', async () => {
    const snapshot = aSnapshot({
      servers: [
        aServer({ status: 'retired', ...unix({ uid: 1000 }) }),
        aServer({ server: 'two', resource: 'urn:two', ...unix({ uid: 1000 }) }),
      ],
    })
    expect(await attest({ peer }, snapshot)).toMatchObject({ server: { server: 'two' } })
    expect(await codeOf(attest({ peer, clientId: 'notes' }, snapshot))).toBe('workload_not_approved')
    expect(overlappingServers(snapshot)).toEqual([])
  })

  it('without a process, a name alone proves nothing', async () => {
    expect(await codeOf(attest({ clientId: 'notes' }, aSnapshot({ servers: [aServer(unix({ uid: 1000 }))] })))).toBe(
      'workload_unknown',
    )
  })

  it('a deprecated server works, with a warning that names its replacement', async () => {
    const snapshot = aSnapshot({
      servers: [aServer({ status: 'deprecated', replaced_by: 'notes-2', ...unix({ uid: 1000 }) })],
    })
    expect((await attest({ peer }, snapshot)).warning).toMatch(/deprecated.*notes-2/)
  })

  it('costs a few microseconds, however many servers there are', async () => {
    const servers = Array.from({ length: 2000 }, (_, at) =>
      aServer({ server: `s${at}`, resource: `urn:s${at}`, ...unix({ uid: at }) }),
    )
    const snapshot = aSnapshot({ servers })
    await attest({ peer }, snapshot)
    const before = performance.now()
    for (let at = 0; at < 20_000; at += 1) await attest({ peer }, snapshot)
    expect((performance.now() - before) / 20).toBeLessThan(25)
  })

  it('reads of a process only what some server is told apart by', () => {
    expect(registryOf(aSnapshot({ servers: [aServer(unix({ uid: 1 }))] })).wants).toEqual({ exe: false, sha256: false })
    expect(registryOf(aSnapshot({ servers: [aServer(unix({ sha256: 'a'.repeat(64) }))] })).wants).toEqual({
      exe: false,
      sha256: true,
    })
  })
})

describe('attestation by private_key_jwt', () => {
  it('requirement 22: accepts an assertion for our issuer, or for the token endpoint as older clients write it', async () => {
    for (const aud of [ISSUER, [ISSUER], `${ISSUER}/oauth2/token`]) expect(await proved({ aud })).toBe('accepted')
    expect(await proved({}, { typ: 'client-authentication+jwt' })).toBe('accepted')
  })

  it.each([[[ISSUER, 'https://other.example']], ['https://other.example'], [[]], [`${ISSUER}/`], [undefined]])(
    'requirement 22: refuses the audience %j',
    async (aud) => {
      expect(await proved({ aud })).toBe('workload_unverified')
    },
  )

  it('tries each registered key for an assertion that names none', async () => {
    const next = anIssuerKey('next')
    const both = aSnapshot({
      servers: [aServer({ attest: [{ private_key_jwt: { jwks: { keys: [key.jwk, next.jwk] } } }] })],
    })
    const unnamed = async (signer: KeyObject): Promise<string> =>
      codeOf(attest({ clientAssertion: await assertion({}, { kid: undefined }, signer) }, both))
    expect([
      await unnamed(key.privateKey),
      await unnamed(next.privateKey),
      await unnamed(anIssuerKey().privateKey),
    ]).toEqual(['accepted', 'accepted', 'workload_unverified'])
  })

  it('requirement 22: accepts a jti once', async () => {
    const once = await assertion()
    expect(await codeOf(attest({ clientAssertion: once }, byKey))).toBe('accepted')
    expect(await codeOf(attest({ clientAssertion: once }, byKey))).toBe('workload_unverified')
    const raced = await assertion()
    const codes = await Promise.all([1, 2, 3, 4].map(() => codeOf(attest({ clientAssertion: raced }, byKey))))
    expect(codes.sort()).toEqual(['accepted', 'workload_unverified', 'workload_unverified', 'workload_unverified'])
  })

  it('requirement 22: wants exp, and soon, and a jti', async () => {
    const now = Math.floor(clock.now() / 1000)
    for (const claims of [
      { exp: undefined },
      { exp: now - 60 },
      { exp: now + 3600 },
      { nbf: now + 120 },
      { jti: undefined },
      { jti: 7 },
      { jti: 'x'.repeat(300) },
      { iss: 'other' },
      { iss: undefined },
    ]) {
      expect([claims, await proved(claims)]).toEqual([claims, 'workload_unverified'])
    }
  })

  it('is for the server that it names, not for the client_id beside it', async () => {
    expect(await codeOf(attest({ clientAssertion: await assertion(), clientId: 'other' }, byKey))).toBe(
      'workload_unknown',
    )
    expect(await codeOf(attest({ clientAssertion: await assertion({ iss: 'other', sub: 'other' }) }, byKey))).toBe(
      'workload_unverified',
    )
    expect(await codeOf(attest({ clientAssertion: await assertion({ sub: 'nobody' }) }, byKey))).toBe(
      'workload_unknown',
    )
  })

  it('threat 14: refuses none, a shared-secret algorithm, a foreign key, keys brought along, unknown crit and other types', async () => {
    const now = Math.floor(clock.now() / 1000)
    const claims = { iss: 'notes', sub: 'notes', aud: ISSUER, exp: now + 60, jti: 'j' }
    const none = new UnsecuredJWT(claims).encode()
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
    const head = `${part({ alg: 'HS256', kid: 'key' })}.${part(claims)}`
    const confused = `${head}.${createHmac('sha256', JSON.stringify(key.jwk)).update(head).digest('base64url')}`
    const foreign = anIssuerKey('key')
    for (const bad of [
      none,
      confused,
      await assertion({}, {}, foreign.privateKey),
      await assertion({}, { jwk: foreign.jwk }, foreign.privateKey),
      await assertion({}, { jku: 'https://evil.example' }),
      await assertion({}, { x5u: 'https://evil.example' }),
      await assertion({}, { typ: 'at+jwt' }),
      await assertion({}, { typ: 'dpop+jwt' }),
      await assertion({}, { crit: ['exp'], exp: 1 }).catch(() => none),
    ]) {
      expect(await codeOf(attest({ clientAssertion: bad }, byKey))).toBe('workload_unverified')
    }
  })

  it.each([
    '',
    'x',
    'a.b.c',
    '..',
    `${Buffer.from('{"alg":"ES256"}').toString('base64url')}.${Buffer.from('{"sub":7}').toString('base64url')}.x`,
    `${Buffer.from('{"alg":7,"typ":{}}').toString('base64url')}.${Buffer.from('{"sub":"notes"}').toString('base64url')}.x`,
  ])('refuses what is no assertion: %j', async (clientAssertion) => {
    expect(await codeOf(attest({ clientAssertion }, byKey))).toMatch(/^workload_un/)
  })

  it('says what is wrong without repeating the assertion', async () => {
    const jwt = await assertion({ aud: 'https://other.example', canary: 'canary' })
    const error = (await attest({ clientAssertion: jwt }, byKey).catch((thrown: Error) => thrown)) as Error & {
      facts: object
    }
    expect(`${error.message} ${JSON.stringify(error.facts)} ${String(error.cause)}`).not.toMatch(
      new RegExp(`${jwt.split('.')[1]}|canary`),
    )
  })
})

describe('attestation by client secret', () => {
  it('accepts the secret whose hash is registered, and pays for the slow hash once', async () => {
    const secret = new Secret('correct horse battery staple')
    const snapshot = aSnapshot({
      servers: [aServer({ attest: [{ client_secret: { scrypt: await hashClientSecret(secret, random) } }] })],
    })
    const evidence: CallerEvidence = { clientId: 'notes', clientSecret: secret }
    expect(await attest(evidence, snapshot)).toMatchObject({ method: 'client_secret' })
    const before = performance.now()
    for (let at = 0; at < 10_000; at += 1) await attest(evidence, snapshot)
    expect((performance.now() - before) / 10).toBeLessThan(50)
    expect(await codeOf(attest({ clientId: 'notes', clientSecret: new Secret('wrong') }, snapshot))).toBe(
      'workload_unverified',
    )
    expect(await codeOf(attest({ clientId: 'nobody', clientSecret: secret }, snapshot))).toBe('workload_unverified')
    const rotated = aSnapshot({
      servers: [
        aServer({ attest: [{ client_secret: { scrypt: await hashClientSecret(new Secret('new'), random) } }] }),
      ],
    })
    expect(await codeOf(attest(evidence, rotated))).toBe('workload_unverified')
  })

  it('a flood of guesses does not pile up', async () => {
    const snapshot = aSnapshot({
      servers: [
        aServer({
          attest: [{ client_secret: { scrypt: `scrypt$1024$8$1$c2FsdA$${Buffer.alloc(32).toString('base64url')}` } }],
        }),
      ],
    })
    const codes = await Promise.all(
      Array.from({ length: 60 }, (_, at) =>
        codeOf(attest({ clientId: 'notes', clientSecret: new Secret(`guess ${at}`) }, snapshot)),
      ),
    )
    expect(new Set(codes)).toEqual(new Set(['workload_unverified', 'rate_limited']))
  })

  it.each([
    'scrypt$',
    'scrypt$0$8$1$c2FsdA$aGFzaA',
    `scrypt$1000$8$1$c2FsdA$${'A'.repeat(43)}`,
    `scrypt$16777216$99$1$c2FsdA$${'A'.repeat(43)}`,
    'scrypt$1024$8$1$c2FsdA$AAAA',
    `scrypt$1024$8$1$c2FsdA$${'A'.repeat(43)}$more`,
    'scrypt$131072$8$1$...',
  ])('a stored hash that is malformed or too dear is no hash, and no file can have it: %s', (scrypt) => {
    expect(parseStoredHash(scrypt)).toBeUndefined()
    expect(() => aServer({ attest: [{ client_secret: { scrypt } }] })).toThrow('deputy server secret')
  })

  it('two ways at once are refused', async () => {
    expect(
      await codeOf(
        attest({ clientId: 'notes', clientSecret: new Secret('x'), clientAssertion: await assertion() }, byKey),
      ),
    ).toBe('malformed_request')
  })
})

describe('unknown callers', () => {
  const snapshot = aSnapshot({ servers: [] })

  it('are written down with all that is known about them', async () => {
    const self = { pid: process.pid, uid: process.getuid!(), gid: process.getgid!() }
    const startedAt = parseStartTime(readFileSync('/proc/self/stat', 'utf8'))!
    await codeOf(attest({ peer: { ...self, startedAt }, clientId: 'shadow' }, snapshot))
    const [caller] = await store.unknownCallers.list()
    expect(caller?.facts).toMatchObject({
      claimed: 'shadow',
      over: 'unix',
      uid: self.uid,
      gid: self.gid,
      pid: self.pid,
      exe: process.execPath,
    })
    expect(caller?.facts['sha256']).toMatch(/^[0-9a-f]{64}$/)
  })

  it('are counted again only after a while', async () => {
    for (let at = 0; at < 50; at += 1) await codeOf(attest({ peer }, snapshot))
    expect(await store.unknownCallers.list()).toMatchObject([{ count: 1 }])
    clock.forward(11_000)
    await codeOf(attest({ peer }, snapshot))
    expect(await store.unknownCallers.list()).toMatchObject([{ count: 2 }])
  })

  it('that make up a name each time do not fill the store', async () => {
    for (let at = 0; at < 500; at += 1) await codeOf(attest({ clientId: `made-up-${at}` }, snapshot))
    expect((await store.unknownCallers.list()).length).toBeLessThanOrEqual(100)
  })
})
