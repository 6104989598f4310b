import { createServer, type Server as HttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exchangeJwtAuthGrant, requestJwtAuthorizationGrant } from '@modelcontextprotocol/client'
import { decodeJwt, decodeProtectedHeader, type JWK } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { AuditRecord } from '../../src/foundation/audit/record.ts'
import { createSystemRandom } from '../../src/clock.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import { createMintedTokenReader } from '../../src/identity/subject/minted-token.ts'
import { ACCESS_TOKEN_TYPE } from '../../src/oauth/token-type.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { refuse } from '../../src/errors.ts'
import { createIdentityAssertions } from '../../src/flows/exchange/identity-assertion.ts'
import { createMintedLife } from '../../src/flows/exchange/minted-life.ts'
import { identityAssertionEndpoint } from '../../src/listeners/public/identity-assertion.ts'
import { RevocationIndex } from '../../src/identity/validity/revocation-index.ts'
import { createClientSecretCheck, hashClientSecret } from '../../src/identity/workload/client-secret.ts'
import { startIdentityProvider, type IdentityProviderDouble } from '../doubles/identity-provider.ts'
import { aKeyPair } from '../support/daemon.ts'
import { aServer, aSnapshot, aTenant } from '../support/snapshot.ts'
import { OWN_ISSUER, startSubjects, type Subjects } from '../support/subjects.ts'

const notes = aServer()
const RESOURCE = notes.resource
const CLIENT = { id: 'mcp-client', secret: 'mcp-client-secret' }
const clock = { now: () => Date.now() }
const random = createSystemRandom()
let idp: IdentityProviderDouble
let subjects: Subjects
let snapshot: Snapshot
let revocationIndex: RevocationIndex
let http: HttpServer
let endpoint: string
let records: AuditRecord[] = []
let auditFails = false
let whileRecorded: (() => void) | undefined
let hashed: string

beforeAll(async () => {
  idp = await startIdentityProvider({
    key: { ...aKeyPair().privateKey.export({ format: 'jwk' }), kid: 'key' } as JWK,
    audience: OWN_ISSUER,
    clientId: CLIENT.id,
    resource: RESOURCE,
  })
  subjects = await startSubjects({ snapshot: () => snapshot, clock })
  hashed = await hashClientSecret(new Secret(CLIENT.secret), random)
  const checkSecret = createClientSecretCheck(random)
  http = createServer((request, response) => {
    const redeem = createIdentityAssertions({
      snapshot: () => snapshot,
      revocationIndex,
      membership: { assertHeld: () => {} },
      issuer: () => OWN_ISSUER,
      issuerKeys: subjects.issuerKeys,
      checkSecret,
      keys: subjects.keys,
      replays: subjects.store.replays,
      clock,
      random,
      rates: { admit: () => Promise.resolve(), isRepeated: () => false },
      audit: {
        append(record) {
          if (auditFails) return Promise.reject(refuse('audit_unavailable', {}))
          records.push(record)
          whileRecorded?.()
          return Promise.resolve()
        },
      },
    })
    identityAssertionEndpoint({
      redeem,
      correlationId: () => 'c',
      logger: { info() {}, warn() {}, error() {} } as never,
    })(request, response)
  })
  await new Promise<void>((resolve) => {
    http.listen(0, '127.0.0.1', resolve)
  })
  endpoint = `http://127.0.0.1:${(http.address() as AddressInfo).port}/oauth2/token`
})
afterAll(async () => {
  http?.close()
  http?.closeAllConnections()
  await subjects?.close()
  await idp?.close()
})
beforeEach(() => {
  revocationIndex = new RevocationIndex([], [])
  records = []
  auditFails = false
  whileRecorded = undefined
  snapshot = aSnapshot({
    servers: [notes, aServer({ server: 'retired', resource: 'https://retired.example/mcp', status: 'retired' })],
    tenants: [
      aTenant({
        issuers: [{ issuer: idp.url, jwks_uri: `${idp.url}/jwks` }],
        identity_assertions: {
          issuers: [idp.url],
          clients: [
            { client_id: CLIENT.id, client_secret: { scrypt: hashed } },
            { client_id: 'another', client_secret: { scrypt: hashed } },
          ],
        },
      }),
    ],
  })
})

/** What the MCP SDK's client gets at the identity provider. */
const assertion = async (spoil?: IdentityProviderDouble['spoil']): Promise<string> => {
  idp.spoil = spoil
  const { jwtAuthGrant } = await requestJwtAuthorizationGrant({
    tokenEndpoint: `${idp.url}/token`,
    audience: OWN_ISSUER,
    resource: RESOURCE,
    idToken: await idp.idToken({ sub: 'alice' }),
    clientId: idp.client.id,
    clientSecret: idp.client.secret,
    scope: 'read write',
  })
  return jwtAuthGrant
}

const redeem = async (
  jwt: string,
  more: Record<string, string> = {},
  secret = CLIENT.secret,
): Promise<{ status: number; body: Record<string, unknown> }> => {
  const response = await fetch(endpoint, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
      assertion: jwt,
      client_id: CLIENT.id,
      client_secret: secret,
      ...more,
    }),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

describe('identity assertions at Deputy', () => {
  it("requirement 17: the MCP SDK's client redeems one for an access token of the server (requirement 21), without a refresh token", async () => {
    const tokens = await exchangeJwtAuthGrant({
      tokenEndpoint: endpoint,
      jwtAuthGrant: await assertion(),
      clientId: CLIENT.id,
      clientSecret: CLIENT.secret,
    })
    expect(tokens).toMatchObject({ token_type: 'Bearer', scope: 'read write' })
    expect(tokens).not.toHaveProperty('refresh_token')
    expect(decodeProtectedHeader(tokens.access_token)).toMatchObject({ typ: 'at+jwt', alg: 'ES256' })
    expect(decodeJwt(tokens.access_token)).toMatchObject({
      iss: OWN_ISSUER,
      sub: 'alice',
      aud: RESOURCE,
      client_id: CLIENT.id,
      tenant: 'acme',
      act: { sub: CLIENT.id },
    })
    expect(records).toMatchObject([
      { event: 'token.identity_assertion', outcome: 'issued', tenant: 'acme', user: 'alice', server: 'notes' },
    ])
    expect(JSON.stringify(records)).not.toContain('eyJ')
  })

  it('promise 2: the token is one of the user for that server, whose actor is the client, and for no other server', async () => {
    const token = new Secret(String((await redeem(await assertion())).body['access_token']))
    expect(await subjects.verifier.verify({ token, tokenType: ACCESS_TOKEN_TYPE, server: notes })).toMatchObject({
      user: 'alice',
      actors: [{ sub: CLIENT.id }],
    })
    await expect(
      subjects.verifier.verify({
        token,
        tokenType: ACCESS_TOKEN_TYPE,
        server: aServer({ server: 'other', resource: 'https://other.example/mcp' }),
      }),
    ).rejects.toMatchObject({ code: 'subject_audience_mismatch' })
  })

  it('requirement 17: the scopes are those of the assertion that were asked for', async () => {
    expect((await redeem(await assertion(), { scope: 'read admin' })).body['scope']).toBe('read')
  })

  it.each([
    ['typ', { header: { typ: 'JWT' } }],
    ['aud', { claims: { aud: 'https://evil.example' } }],
    ['several aud', { claims: { aud: [OWN_ISSUER, 'https://evil.example'] } }],
    ['client_id', { claims: { client_id: 'another' } }],
    ['resource', { claims: { resource: 'https://other.example/mcp' } }],
    ['a retired server', { claims: { resource: 'https://retired.example/mcp' } }],
    ['no resource', { claims: { resource: undefined } }],
    ['exp', { claims: { exp: 1 } }],
    ['no jti', { claims: { jti: undefined } }],
    ['iss', { claims: { iss: 'https://evil.example' } }],
    ['user', { claims: { sub: 'a\nb' } }],
  ] as const)('requirement 17: one with another %s is invalid_grant, and is recorded', async (_, spoil) => {
    const { status, body } = await redeem(await assertion(spoil))
    expect([status, body['error']]).toEqual([400, 'invalid_grant'])
    expect(records).toMatchObject([{ outcome: 'refused', tenant: 'acme' }])
  })

  it('requirement 17: one is redeemed once, also by many at the same time', async () => {
    const jwt = await assertion()
    const answers = await Promise.all(Array.from({ length: 8 }, () => redeem(jwt)))
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
    expect(new Set(answers.filter(({ status }) => status !== 200).map(({ body }) => body['error']))).toEqual(
      new Set(['invalid_grant']),
    )
  })

  it('requirement 17: a signature of another key, and none, are invalid_grant', async () => {
    const [header, payload] = (await assertion()).split('.')
    const none = `${Buffer.from(JSON.stringify({ alg: 'none', typ: 'oauth-id-jag+jwt' })).toString('base64url')}.${payload}.`
    for (const jwt of [`${header}.${payload}.${Buffer.alloc(64, 1).toString('base64url')}`, none, 'x'])
      expect((await redeem(jwt)).body['error']).toBe('invalid_grant')
  })

  it('a client with a wrong secret, or none, or an unknown one is invalid_client and leaves no record; another grant is refused', async () => {
    const jwt = await assertion()
    for (const more of [{ client_secret: 'wrong' }, { client_id: 'nobody' }])
      expect(await redeem(jwt, more)).toMatchObject({ status: 401, body: { error: 'invalid_client' } })
    expect((await redeem(jwt, { client_id: 'another' })).body['error']).toBe('invalid_grant')
    expect((await redeem(jwt, { grant_type: 'client_credentials' })).body['error']).toBe('unsupported_grant_type')
    expect((await redeem(jwt, { resource: 'https://other.example/mcp' })).body['error']).toBe('invalid_grant')
    expect(records.map(({ outcome }) => outcome)).toEqual(['refused', 'refused'])
  })

  it('promise 3: without a durable record nothing is issued', async () => {
    auditFails = true
    const { status, body } = await redeem(await assertion())
    expect(status).toBe(503)
    expect(body).not.toHaveProperty('access_token')
  })

  it('threat 15: a client, or an issuer, that files take away while the record is written gets nothing', async () => {
    const { identity_assertions: taken } = snapshot.tenants.get('acme')!
    for (const left of [
      { ...taken!, clients: [{ client_id: 'another', client_secret: { scrypt: hashed } }] },
      { ...taken!, issuers: ['https://other.example'] },
    ]) {
      const before = snapshot
      whileRecorded = () => {
        snapshot = {
          ...aSnapshot({ servers: [notes] }),
          tenants: new Map([['acme', { ...before.tenants.get('acme')!, identity_assertions: left }]]),
        }
      }
      expect(await redeem(await assertion())).toMatchObject({ status: 401, body: { error: 'invalid_client' } })
      snapshot = before
    }
    expect(records.map(({ outcome }) => outcome)).toEqual(['issued', 'refused', 'issued', 'refused'])
  })

  it('promise 4: after a revocation of the user nothing is issued for an older assertion, and what was issued is void', async () => {
    const token = new Secret(String((await redeem(await assertion())).body['access_token']))
    const claims = createMintedTokenReader({ keys: subjects.keys, issuer: () => OWN_ISSUER, clock })(token)!
    const isLive = createMintedLife({ snapshot: () => snapshot, revocationIndex })
    expect(isLive(claims)).toBe(true)
    const jwt = await assertion()
    revocationIndex.add({
      id: 'r',
      scope: { kind: 'user', tenant: 'acme', user: 'alice' },
      epoch: Date.now() + 1,
      by: 'admin',
      reason: null,
      forgetAt: null,
    })
    expect(isLive(claims)).toBe(false)
    expect((await redeem(jwt)).body).not.toHaveProperty('access_token')
  })
})

describe('identity assertions of draft -03', () => {
  const claimed = async (claims: object): Promise<{ status: number; body: Record<string, unknown> }> =>
    redeem(await assertion({ claims }))
  /** The same files, with another `identity_assertions` of the tenant, or another server. */
  const given = (assertions: object, server: object = {}): void => {
    const [tenant] = [...snapshot.tenants.values()]
    const { clients } = tenant!.identity_assertions!
    snapshot = aSnapshot({
      servers: [aServer(server)],
      tenants: [
        aTenant({
          issuers: [{ issuer: idp.url, jwks_uri: `${idp.url}/jwks` }],
          identity_assertions: { issuers: [idp.url], clients, ...assertions },
        }),
      ],
    })
  }

  it('promise 8: aud_tenant is the tenant that is meant, by its id or by the name that the file has for it', async () => {
    expect((await claimed({ aud_tenant: 'acme' })).status).toBe(200)
    expect(await claimed({ aud_tenant: 'other' })).toMatchObject({ status: 400, body: { error: 'invalid_grant' } })
    given({ aud_tenant: 'org-1' })
    expect((await claimed({ aud_tenant: 'org-1' })).status).toBe(200)
    expect((await claimed({ aud_tenant: 'acme' })).status).toBe(400)
    expect((await claimed({})).status).toBe(200)
    for (const bad of [1, '', ['org-1'], {}]) expect((await claimed({ aud_tenant: bad })).status).toBe(400)
  })

  it('threat 12: aud_sub is another name of the user only where the tenant takes users from it', async () => {
    const userOf = ({ body }: Awaited<ReturnType<typeof claimed>>): unknown =>
      decodeJwt(String(body['access_token'])).sub
    expect(userOf(await claimed({ aud_sub: 'alice' }))).toBe('alice')
    expect(await claimed({ aud_sub: 'bob' })).toMatchObject({ status: 400, body: { error: 'invalid_grant' } })
    given({ user_from: 'aud_sub' })
    expect(userOf(await claimed({ aud_sub: 'bob' }))).toBe('bob')
    expect(userOf(await claimed({}))).toBe('alice')
    expect((await claimed({ aud_sub: 'b\u0000b' })).status).toBe(400)
  })

  it('promise 1: authorization details of a type that the server does not enforce are refused, others stand in the token', async () => {
    const details = [{ type: 'calendar', actions: ['read'] }]
    expect(await claimed({ authorization_details: details })).toMatchObject({
      status: 400,
      body: { error: 'invalid_authorization_details' },
    })
    given({}, { authorization_details_types: ['calendar'] })
    const { body } = await claimed({ authorization_details: details })
    expect(body['authorization_details']).toEqual(details)
    expect(decodeJwt(String(body['access_token']))['authorization_details']).toEqual(details)
    for (const bad of [[], {}, 'calendar', [{ actions: ['read'] }], [...details, { type: 'mail' }]])
      expect((await claimed({ authorization_details: bad })).status).toBe(400)
  })

  it('one that is bound to a key is refused, because Deputy does not check the key', async () => {
    expect((await claimed({ cnf: { jkt: 'x' } })).status).toBe(400)
  })
})
