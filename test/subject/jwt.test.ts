import { createHmac, randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import * as fc from 'fast-check'
import { UnsecuredJWT } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Server } from '../../src/config/server.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import { ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE } from '../../src/oauth/token-type.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { displayNameOf } from '../../src/identity/subject/claims.ts'
import { createClaimWatch } from '../../src/identity/subject/claim-watch.ts'
import type { VerifiedSubject } from '../../src/identity/subject/subject.ts'
import { anIssuerKey, startIssuerDouble, type IssuerDouble } from '../doubles/issuer.ts'
import { signIn, startCompanyIdp } from '../peers/company-idp.ts'
import { aClock, aServer, aSnapshot, aTenant } from '../support/snapshot.ts'
import { startSubjects, type Subjects } from '../support/subjects.ts'

const RESOURCE = 'https://notes.example/mcp'
const notes = aServer()
const clock = aClock()
let snapshot: Snapshot
let issuer: IssuerDouble
let subjects: Subjects

beforeAll(async () => {
  issuer = await startIssuerDouble(clock.now)
  subjects = await startSubjects({ snapshot: () => snapshot, clock })
})
afterAll(async () => {
  await subjects?.close()
  await issuer?.close()
})
beforeEach(() => {
  snapshot = aSnapshot({ servers: [notes], tenants: [aTenant({ issuers: [{ issuer: issuer.url }] })] })
})

const verify = (
  token: string,
  more: { server?: Server; actorToken?: string; actorTokenType?: string; tokenType?: string } = {},
): Promise<VerifiedSubject> =>
  subjects.verifier.verify({
    token: new Secret(token),
    tokenType: more.tokenType ?? ACCESS_TOKEN_TYPE,
    server: more.server ?? notes,
    ...(more.actorToken === undefined
      ? {}
      : { actorToken: new Secret(more.actorToken), actorTokenType: more.actorTokenType ?? ACCESS_TOKEN_TYPE }),
  })
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'accepted',
    (error: { code: string }) => error.code,
  )
const outcome = async (
  claims: object = {},
  header: object = {},
  more: Parameters<typeof verify>[1] = {},
): Promise<string> => codeOf(verify(await issuer.sign(claims, { ...header }), more))
const seconds = (): number => Math.floor(clock.now() / 1000)
const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

it('Entra: groups that a token says to be elsewhere are known as left out, and are told once', async () => {
  const elsewhere = {
    groups: undefined,
    _claim_names: { groups: 'src1' },
    _claim_sources: { src1: { endpoint: 'https://graph.example' } },
  }
  const omitted = async (claims: object): Promise<unknown> => (await verify(await issuer.sign(claims))).omitted
  expect(await omitted(elsewhere)).toEqual({ claims: ['groups'], groups: true })
  expect(await omitted({ groups: undefined, hasgroups: true })).toEqual({ claims: ['groups'], groups: true })
  expect(await omitted({ groups: ['a'] })).toBeUndefined()
  expect(await omitted({ groups: undefined })).toBeUndefined()
  const lines: string[] = []
  const watch = createClaimWatch({ logger: { warn: (...line: unknown[]) => lines.push(String(line[1])) } as never })
  const [groups, roles] = ['groups', 'roles'].map(
    (claim) => aTenant({ issuers: [{ issuer: issuer.url, claims: { groups: claim } }] }).issuers[0]!,
  )
  watch('acme', groups!, elsewhere)
  watch('acme', groups!, elsewhere)
  watch('globex', roles!, elsewhere)
  expect(lines).toEqual([expect.stringContaining('leaves the groups of users with many groups out')])
  snapshot = aSnapshot({
    servers: [notes],
    tenants: [aTenant({ issuers: [{ issuer: issuer.url, claims: { groups: 'roles' } }] })],
  })
  expect(await omitted({ ...elsewhere, roles: ['reader'] })).toEqual({ claims: ['groups'], groups: false })
})

it('fault 68, promise 4: a token that names its session counts no longer than a logout of that is remembered', async () => {
  const day = 86_400
  const [now, start] = [seconds(), seconds() * 1000]
  const long = { sid: 's1', iat: now, exp: now + 90 * day }
  expect((await verify(await issuer.sign(long))).expiresAt).toBe(start + 31 * day * 1000)
  expect((await verify(await issuer.sign({ ...long, sid: undefined }))).expiresAt).toBe((now + 90 * day) * 1000)
  expect((await verify(await issuer.sign({ ...long, exp: now + 60 }))).expiresAt).toBe((now + 60) * 1000)
  expect(await outcome({ ...long, iat: now - 31 * day })).toBe('subject_token_invalid')
  expect(await outcome({ ...long, iat: undefined })).toBe('subject_token_invalid')
  snapshot = aSnapshot({
    servers: [notes],
    tenants: [aTenant({ issuers: [{ issuer: issuer.url, session_lifetime: '1d' }] })],
  })
  expect((await verify(await issuer.sign(long))).expiresAt).toBe(start + day * 1000)
})

describe('fault 18: claims of real issuers', () => {
  it('that are null are absent', async () => {
    const { tokenId, ...subject } = await verify(
      await issuer.sign({
        acr: null,
        jti: null,
        client_id: null,
        act: null,
        may_act: null,
        cnf: null,
        nbf: null,
        iat: null,
        scope: null,
        groups: null,
      }),
    )
    expect(subject).toMatchObject({ user: 'alice', groups: [], actors: [], scopes: [], issuedAt: 0 })
    expect(subject.acr).toBeUndefined()
    expect(tokenId).toMatch(/#[\w-]{22}$/)
    expect(await outcome({ act: { sub: 'notes', act: null, client_id: null } })).toBe('accepted')
    for (const needed of ['iss', 'sub', 'aud', 'exp'])
      expect([needed, await outcome({ [needed]: null })]).not.toEqual([needed, 'accepted'])
  })

  it('may be numbers as text, and ids as numbers', async () => {
    const now = seconds()
    const subject = await verify(
      await issuer.sign({ exp: `${now + 60}`, iat: `${now}`, nbf: `${now - 1}`, sub: 1234, jti: 99, acr: 1 }),
    )
    expect(subject).toMatchObject({
      user: '1234',
      expiresAt: (now + 60) * 1000,
      issuedAt: now * 1000,
      tokenId: `${issuer.url}#99`,
      acr: '1',
    })
    expect(await outcome({ exp: `${now - 60}` })).toBe('subject_token_expired')
    expect(await outcome({ nbf: `${now + 600}` })).toBe('subject_token_invalid')
    for (const wrong of ['soon', '', '1e12', `${now + 60}x`, '-1'])
      expect(await outcome({ exp: wrong })).not.toBe('accepted')
    // Two users could not be told apart by a number that is not exact.
    for (const wrong of [2 ** 53, 1.5, true, {}]) expect(await outcome({ sub: wrong })).toBe('subject_token_invalid')
  })

  it('one text is a list of one group', async () => {
    expect((await verify(await issuer.sign({ groups: 'engineering' }))).groups).toEqual(['engineering'])
    expect((await verify(await issuer.sign({ groups: ['a', 7, '', 'b'] }))).groups).toEqual(['a', 'b'])
    for (const none of ['', {}, 7]) expect((await verify(await issuer.sign({ groups: none }))).groups).toEqual([])
  })
})

describe('fault 71: groups and roles as an ordinary realm has them', () => {
  const groupsOf = async (groups: unknown, claims: object, server = notes): Promise<readonly string[]> => {
    snapshot = aSnapshot({
      servers: [server],
      tenants: [aTenant({ issuers: [{ issuer: issuer.url, claims: groups === undefined ? {} : { groups } }] })],
    })
    return (await verify(await issuer.sign(claims))).groups
  }
  const keycloak = {
    groups: ['/sales/emea', '/sales', '/r~/d/lab', 'plain/name', '/'],
    realm_access: { roles: ['accounting'] },
    resource_access: { 'https://notes.example/mcp': { roles: ['reader'] }, ledger: { roles: ['sales'] } },
  }

  it('a path is the group and those above it, without its slash', async () => {
    expect(await groupsOf(undefined, keycloak)).toEqual(['sales/emea', 'sales', 'r~/d/lab', 'r~/d', 'plain/name'])
  })

  it('dots lead to nested claims, of a client with dots in its name too; several claims are one list', async () => {
    expect(await groupsOf('realm_access.roles', keycloak)).toEqual(['accounting'])
    expect(await groupsOf('resource_access.https://notes.example/mcp.roles', keycloak)).toEqual(['reader'])
    expect(
      await groupsOf(
        ['realm_access.roles', { claim: 'resource_access.ledger.roles', prefix: 'ledger:' }, 'none.at.all'],
        keycloak,
      ),
    ).toEqual(['accounting', 'ledger:sales'])
    // A claim of that name, such as a URL, is no path.
    expect(await groupsOf('https://x.example/groups', { 'https://x.example/groups': 'a' })).toEqual(['a'])
    for (const none of [{ realm_access: 'x' }, { realm_access: ['roles'] }, { realm_access: { roles: { a: 1 } } }])
      expect(await groupsOf('realm_access.roles', none)).toEqual([])
    for (const name of ['__proto__', 'constructor.name', 'realm_access.__proto__'])
      expect(await groupsOf(name, keycloak)).toEqual([])
  })

  it('promise 1: a group whose name begins with the prefix of roles is no role', async () => {
    const mapping = [
      'groups',
      { claim: 'realm_access.roles', prefix: 'role:' },
      { claim: 'more', prefix: 'role:ledger:' },
    ]
    const claims = {
      groups: ['role:admin', '/role:admin/x', 'role', 'roles', '/team/role:admin'],
      realm_access: { roles: ['reader', 'ledger:writer'] },
      more: ['reader'],
    }
    expect(await groupsOf(mapping, claims)).toEqual([
      'role',
      'roles',
      'team/role:admin',
      'team',
      'role:reader',
      'role:ledger:reader',
    ])
  })

  it('promise 1: no group is left out: a policy could forbid it', async () => {
    const many = Array.from({ length: 600 }, (_, at) => `g${at}`)
    expect(await groupsOf(undefined, { groups: many })).toHaveLength(600)
    const paths = `/${Array.from({ length: 2100 }, () => 'g').join('/')}`
    await expect(groupsOf(undefined, { groups: [paths] })).rejects.toMatchObject({ code: 'subject_token_invalid' })
  })

  it('the user and the tenant are found by paths too', async () => {
    const server = aServer({ tenants: '*' })
    snapshot = aSnapshot({
      servers: [server],
      tenants: ['acme', 'globex'].map((tenant) =>
        aTenant({
          tenant,
          issuers: [
            { issuer: issuer.url, claims: { user: 'person.id', tenant: { claim: 'org.name', value: tenant } } },
          ],
        }),
      ),
    })
    const subject = await verify(await issuer.sign({ person: { id: 'ada' }, org: { name: 'globex' } }), { server })
    expect([subject.user, subject.tenant.tenant]).toEqual(['ada', 'globex'])
  })

  it('fault 72: a name that people know is one line of text, and stands for nothing', () => {
    const [mapped] = aTenant({ issuers: [{ issuer: issuer.url, claims: { display: 'person.name' } }] }).issuers
    const [plain] = aTenant({ issuers: [{ issuer: issuer.url }] }).issuers
    const person = (name: unknown): object => ({ sub: 'u1', person: { name } })
    expect(displayNameOf({ ...person('Ada L.') }, mapped!)).toBe('Ada L.')
    for (const name of [
      '',
      'a\nb',
      '\u001b[2J',
      'x'.repeat(300),
      7,
      ['a'],
      null,
      '\u202eecila',
      'a\u2028b',
      'a\u200fb',
    ])
      expect(displayNameOf({ ...person(name) }, mapped!)).toBeUndefined()
    expect(displayNameOf({ ...person('Ada L.') }, plain!)).toBeUndefined()
  })

  it('a claim that no token has is told once, and one that some have is not', () => {
    const lines: string[] = []
    const watch = createClaimWatch({
      logger: { warn: (_facts: unknown, text?: string) => lines.push(String(text)) } as never,
    })
    const [mapped] = aTenant({
      issuers: [{ issuer: issuer.url, claims: { groups: ['groups', 'realm_access.roles'] } }],
    }).issuers
    for (let at = 0; at < 19; at += 1) watch('acme', mapped!, { groups: [] })
    expect(lines).toEqual([])
    for (let at = 0; at < 50; at += 1) watch('acme', mapped!, {})
    expect(lines).toEqual([expect.stringContaining('has the claim realm_access.roles')])
  })
})

describe('fault 63, promise 2: what an issuer signs beside access tokens is refused', () => {
  const problemOf = async (claims: object, header: object = {}): Promise<string> =>
    verify(await issuer.sign(claims, { typ: 'JWT', ...header })).then(
      () => 'accepted',
      (error: { facts: { problem: string } }) => error.facts.problem.split(';')[0]!,
    )

  it('ID tokens, as Keycloak and others write them, whatever the header says', async () => {
    const idToken = 'it is an ID token, which says who signed in'
    const at_hash = 'pciyjdI57Pjv2otn7nkoZQ'
    for (const claims of [
      { typ: 'ID', azp: RESOURCE, at_hash },
      { typ: 'ID' },
      { at_hash },
      { c_hash: at_hash },
      { nonce: 'n' },
      { at_hash, typ: 'Bearer' },
    ])
      expect([claims, await problemOf(claims)]).toEqual([claims, idToken])
    expect([await problemOf({ at_hash }, { typ: 'at+jwt' }), await problemOf({ at_hash }, { typ: undefined })]).toEqual(
      [idToken, idToken],
    )
  })

  it('refresh, logout and event tokens', async () => {
    const other = 'it is a refresh, logout or event token'
    for (const claims of [{ typ: 'Refresh' }, { typ: 'Offline' }, { typ: 'Logout' }, { events: {} }])
      expect([claims, await problemOf(claims)]).toEqual([claims, other])
  })

  it('access tokens that say so, with a nonce too', async () => {
    expect([
      await problemOf({ typ: 'Bearer' }),
      await problemOf({ typ: 'DPoP' }),
      await problemOf({ typ: 'Bearer', nonce: 'n' }),
      await problemOf({ nonce: 'n' }, { typ: 'at+jwt' }),
      await problemOf({ typ: 'something' }),
      await problemOf({ typ: 7, at_hash: null, nonce: null }),
    ]).toEqual(Array.from({ length: 6 }, () => 'accepted'))
  })

  it('as actor tokens, and where an issuer confirms them', async () => {
    const actorToken = await issuer.sign({ sub: 'notes', at_hash: 'x' }, { typ: 'JWT' })
    expect(await outcome({}, {}, { actorToken })).toBe('actor_token_invalid')
    snapshot = aSnapshot({
      servers: [notes],
      tenants: [
        aTenant({
          issuers: [{ issuer: issuer.url, introspection: { client_id: 'deputy', client_secret: { secret: 's' } } }],
        }),
      ],
    })
    issuer.introspect = () => ({ active: true, sub: 'alice', aud: RESOURCE, exp: seconds() + 60, typ: 'ID' })
    expect(await codeOf(verify('opaque-id-token'))).toBe('subject_token_invalid')
  })
})

describe('a JWT of a trusted issuer', () => {
  it('of a real OpenID provider names the user, the groups and the end', async () => {
    const idp = await startCompanyIdp({ resources: [RESOURCE, 'https://other.example/mcp'] })
    snapshot = aSnapshot({ servers: [notes], tenants: [aTenant({ issuers: [{ issuer: idp.issuer }] })] })
    const { accessToken, idToken } = await signIn({ idp, user: 'alice', resource: RESOURCE })
    expect(await verify(accessToken)).toMatchObject({
      user: 'alice',
      issuer: idp.issuer,
      groups: ['engineering'],
      how: 'jwt',
      tenant: { tenant: 'acme' },
      ancestors: [],
      actors: [],
    })
    expect(await codeOf(verify(idToken))).toBe('subject_audience_mismatch')
    expect(
      await codeOf(verify((await signIn({ idp, user: 'bob', resource: 'https://other.example/mcp' })).accessToken)),
    ).toBe('subject_audience_mismatch')
    await idp.close()
  })

  it('is found by jti, or by a keyed fingerprint where it has none', async () => {
    expect((await verify(await issuer.sign({ jti: 'one' }))).tokenId).toBe(`${issuer.url}#one`)
    const token = await issuer.sign({})
    const { tokenId } = await verify(token)
    expect(tokenId.startsWith(`${issuer.url}#`)).toBe(true)
    const fingerprint = tokenId.slice(issuer.url.length + 1)
    expect(fingerprint).toMatch(/^[\w-]{22}$/)
    expect(token).not.toContain(fingerprint)
  })

  it('promise 2: is for the calling server or for nobody here', async () => {
    for (const aud of [
      'https://other.example/mcp',
      `${RESOURCE}/`,
      RESOURCE.toUpperCase(),
      [],
      ['https://other.example/mcp'],
    ])
      expect(await outcome({ aud })).toBe('subject_audience_mismatch')
    const error = await verify(await issuer.sign({ aud: 'https://other.example/mcp' })).catch(
      (thrown: { facts: object }) => thrown,
    )
    expect(error).toMatchObject({ facts: { audience: 'https://other.example/mcp', resource: RESOURCE } })
    expect(await outcome({ aud: [RESOURCE] })).toBe('accepted')
    expect(await outcome({ aud: ['https://other.example/mcp', RESOURCE] })).toBe('accepted')
    expect(await outcome({ aud: undefined })).toBe('subject_token_invalid')
  })

  it('promise 2: no audience but the exact one ever passes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.webUrl(), fc.string(), fc.constant(`${RESOURCE}x`), fc.constant(RESOURCE.slice(0, -1))), {
          maxLength: 4,
        }),
        async (aud) => {
          if (!aud.includes(RESOURCE)) expect(await outcome({ aud })).toBe('subject_audience_mismatch')
        },
      ),
      { numRuns: 40 },
    )
  })

  it('has begun and has not ended, to the second', async () => {
    expect(await outcome({ exp: undefined })).toBe('subject_token_invalid')
    expect(await outcome({ exp: seconds() - 1 })).toBe('subject_token_expired')
    expect(await outcome({ exp: seconds() - 3600 })).toBe('subject_token_expired')
    expect(await outcome({ exp: 1e300 })).toBe('subject_token_invalid')
    expect(await outcome({ exp: -1e300 })).toBe('subject_token_invalid')
    expect(await outcome({ nbf: seconds() + 20 })).toBe('accepted')
    expect(await outcome({ nbf: seconds() + 60 })).toBe('subject_token_invalid')
    expect(await outcome({ iat: seconds() + 20 })).toBe('accepted')
    expect(await outcome({ iat: seconds() + 60 })).toBe('subject_token_invalid')
  })

  it('ends also for a server that sends it again and again', async () => {
    const token = await issuer.sign({ exp: seconds() + 60 })
    expect(await codeOf(verify(token))).toBe('accepted')
    clock.forward(59_000)
    expect(await codeOf(verify(token))).toBe('accepted')
    clock.forward(2000)
    expect(await codeOf(verify(token))).toBe('subject_token_expired')
  })

  it('is verified once: the next time costs microseconds', async () => {
    const token = await issuer.sign({})
    const first = await verify(token)
    expect(await verify(token)).toBe(first)
    const before = performance.now()
    for (let at = 0; at < 5000; at += 1) await verify(token)
    expect((performance.now() - before) / 5).toBeLessThan(60)
  })

  it('is verified anew for another server and after a reload', async () => {
    const token = await issuer.sign({})
    await verify(token)
    expect(
      await codeOf(verify(token, { server: aServer({ server: 'other', resource: 'https://other.example/mcp' }) })),
    ).toBe('subject_audience_mismatch')
    snapshot = aSnapshot({ servers: [notes], tenants: [aTenant()] })
    expect(await codeOf(verify(token))).toBe('subject_issuer_unknown')
  })

  it('threat 14: refuses none, shared-secret algorithms, foreign keys, keys brought along and unknown crit', async () => {
    const claims = { iss: issuer.url, sub: 'alice', aud: RESOURCE, exp: seconds() + 600 }
    const head = `${part({ alg: 'HS256', kid: issuer.keys[0]!.jwk['kid'], typ: 'at+jwt' })}.${part(claims)}`
    const foreign = anIssuerKey()
    const sneaky = { ...foreign, jwk: { ...foreign.jwk, kid: issuer.keys[0]!.jwk['kid'] } }
    const pem = issuer.keys[0]!.jwk
    for (const bad of [
      new UnsecuredJWT(claims).encode(),
      `${part({ alg: 'none' })}.${part(claims)}.`,
      `${part({ alg: 'NONE' })}.${part(claims)}.x`,
      `${head}.${createHmac('sha256', JSON.stringify(pem)).update(head).digest('base64url')}`,
      await issuer.sign({}, {}, foreign),
      await issuer.sign({}, {}, sneaky),
      await issuer.sign({}, { jwk: foreign.jwk }, sneaky),
      await issuer.sign({}, { jku: 'https://evil.example/jwks' }),
      await issuer.sign({}, { x5u: 'https://evil.example' }),
      await issuer.sign({}, { x5c: ['AA'] }),
      `${part({ alg: 'ES256', crit: ['exp'], exp: 1 })}.${part(claims)}.AA`,
    ])
      expect(await codeOf(verify(bad))).toBe('subject_token_invalid')
  })

  it('threat 14: refuses an algorithm that the issuer is not trusted with', async () => {
    snapshot = aSnapshot({
      servers: [notes],
      tenants: [aTenant({ issuers: [{ issuer: issuer.url, algorithms: ['RS256'] }] })],
    })
    expect(await outcome()).toBe('subject_token_invalid')
  })

  it.each([['at+jwt'], ['AT+JWT'], ['application/at+jwt'], ['JWT'], ['jwt'], [undefined]])(
    'takes the type %s for an access token',
    async (typ) => {
      expect(await outcome({}, { typ })).toBe('accepted')
    },
  )

  it.each([
    ['client-authentication+jwt'],
    ['dpop+jwt'],
    ['secevent+jwt'],
    ['oauth-id-jag+jwt'],
    ['logout+jwt'],
    ['token-introspection+jwt'],
    ['txntoken+jwt'],
    ['application/jwt'],
    ['JOSE'],
    [''],
  ])('does not take the type %s for an access token, though the issuer signed it', async (typ) => {
    expect(await outcome({}, { typ })).toBe('subject_token_invalid')
  })

  it('claims of another form than the standards say are refused, not guessed', async () => {
    const bad = { aud: 7, sub: '', jti: '', act: 'notes', may_act: [], acr: {}, client_id: [] }
    for (const [name, value] of Object.entries(bad))
      expect([name, await outcome({ [name]: value })]).toEqual([name, 'subject_token_invalid'])
    for (const sub of [undefined, 'x'.repeat(257), '\u001B[2Jalice', 'a\nb'])
      expect(await outcome({ sub })).toBe('subject_token_invalid')
  })

  it('a header of any shape ends in a refusal of the taxonomy', async () => {
    for (const header of [
      { alg: 'ES256', typ: 7 },
      { alg: 'ES256', typ: {} },
      { alg: 7 },
      {},
      [],
      'x',
      null,
      { alg: 'ES256', kid: {} },
    ]) {
      expect(
        await codeOf(verify(`${part(header)}.${part({ iss: issuer.url, aud: RESOURCE, exp: seconds() + 60 })}.AA`)),
      ).toBe('subject_token_invalid')
    }
    await fc.assert(
      fc.asyncProperty(fc.json(), fc.json(), fc.string(), async (header, payload, signature) => {
        expect(
          await codeOf(
            verify(
              `${Buffer.from(header).toString('base64url')}.${Buffer.from(payload).toString('base64url')}.${signature}`,
            ),
          ),
        ).toMatch(/^subject_(token_invalid|issuer_unknown)$|^parameter_missing$/)
      }),
      { numRuns: 200 },
    )
  })

  it('threat 12: an empty token is no token', async () => {
    expect(await codeOf(verify(''))).toBe('parameter_missing')
    for (const blank of [' ', '.', '..', 'null', 'undefined'])
      expect(await codeOf(verify(blank))).toBe('subject_token_invalid')
  })

  it('is no longer than 16 KiB, and of a type that we take', async () => {
    expect(await outcome({ filler: 'x'.repeat(14_000) })).toBe('subject_token_invalid')
    expect(await outcome({ filler: 'x'.repeat(10_000) })).toBe('accepted')
    expect(await outcome({}, {}, { tokenType: JWT_TOKEN_TYPE })).toBe('accepted')
    for (const type of ['id_token', 'refresh_token', 'saml2'])
      expect(await outcome({}, {}, { tokenType: `urn:ietf:params:oauth:token-type:${type}` })).toBe(
        'unsupported_token_type',
      )
  })

  it('does not turn up in a refusal', async () => {
    const canary = `canary${randomBytes(8).toString('hex')}`
    for (const claims of [
      { aud: 'https://other.example' },
      { exp: seconds() - 60 },
      { nbf: seconds() + 600 },
      { act: 7 },
      { sub: [7] },
    ]) {
      const token = await issuer.sign({ ...claims, email: canary })
      const error = (await verify(token).catch((thrown: Error) => thrown)) as Error & { facts: object }
      const printed = inspect(error, { depth: 10, showHidden: true })
      expect(printed).not.toContain(canary)
      expect(printed).not.toContain(token.split('.')[1])
    }
  })
})

describe('the tenant of a token', () => {
  const acme = (more: object = {}) =>
    aTenant({
      tenant: 'acme',
      issuers: [{ issuer: issuer.url, claims: { tenant: { claim: 'org', value: 'acme' } }, ...more }],
    })
  const globex = (more: object = {}) =>
    aTenant({
      tenant: 'globex',
      issuers: [{ issuer: issuer.url, claims: { tenant: { claim: 'org', value: 'globex' } }, ...more }],
    })
  const shared = aServer({ tenants: '*' })

  it('is that whose claim it carries, where several share an issuer', async () => {
    snapshot = aSnapshot({ servers: [shared], tenants: [acme(), globex()] })
    for (const org of ['acme', 'globex'])
      expect((await verify(await issuer.sign({ org }), { server: shared })).tenant.tenant).toBe(org)
    for (const org of ['initech', 'ACME', ['acme'], 7, undefined])
      expect(await outcome({ org }, {}, { server: shared })).toBe('subject_tenant_unknown')
  })

  it('is none when two would fit', async () => {
    snapshot = aSnapshot({
      servers: [shared],
      tenants: [acme(), aTenant({ tenant: 'globex', issuers: [{ issuer: issuer.url }] })],
    })
    expect(await outcome({ org: 'acme' }, {}, { server: shared })).toBe('subject_tenant_unknown')
  })

  it('is enabled, and served by the server', async () => {
    snapshot = aSnapshot({ servers: [notes], tenants: [{ ...acme(), enabled: false }, globex()] })
    expect(await outcome({ org: 'acme' })).toBe('subject_issuer_unknown')
    expect(await outcome({ org: 'globex' })).toBe('subject_issuer_unknown')
  })

  it('promise 8: the keys that one tenant names for a shared issuer sign nothing for another', async () => {
    const evil = await startIssuerDouble(clock.now)
    snapshot = aSnapshot({ servers: [shared], tenants: [acme({ jwks_uri: `${evil.url}/jwks` }), globex()] })
    const forge = (org: string): Promise<string> => issuer.sign({ org, sub: 'victim' }, {}, evil.keys[0])
    clock.forward(11_000)
    expect(await codeOf(verify(await forge('globex'), { server: shared }))).toBe('subject_token_invalid')
    expect((await verify(await forge('acme'), { server: shared })).tenant.tenant).toBe('acme')
    expect((await verify(await issuer.sign({ org: 'globex' }), { server: shared })).tenant.tenant).toBe('globex')
    await evil.close()
  })

  it('maps user and groups by its own claims', async () => {
    snapshot = aSnapshot({
      servers: [notes],
      tenants: [aTenant({ issuers: [{ issuer: issuer.url, claims: { user: 'email', groups: 'roles' } }] })],
    })
    expect(
      await verify(await issuer.sign({ email: 'alice@acme.example', roles: ['a', 7, 'b'], groups: ['c'] })),
    ).toMatchObject({ user: 'alice@acme.example', groups: ['a', 'b'] })
    expect((await verify(await issuer.sign({ email: 'alice@acme.example', roles: 'a' }))).groups).toEqual(['a'])
    expect(await outcome({})).toBe('subject_token_invalid')
  })
})

describe('accepted_audiences', () => {
  const GUID = '1111aaaa-22bb-33cc-44dd-555555eeeeee'
  const at = (audience: string, of = issuer.url) => ({
    server: aServer({ accepted_audiences: [{ issuer: of, audience }] }),
  })
  it.each([
    ['a GUID in place of the resource', GUID, { aud: GUID, scp: 'access_as_user' }, 'accepted'],
    ['an api:// URI', `api://${GUID}`, { aud: `api://${GUID}`, scope: 'notes' }, 'accepted'],
    ['one of several', GUID, { aud: ['other', GUID], scp: 'x' }, 'accepted'],
    ['promise 2: no other GUID', GUID, { aud: GUID.replace('1', '2'), scp: 'x' }, 'subject_audience_mismatch'],
    ['promise 2: no other spelling', `api://${GUID}`, { aud: GUID, scp: 'x' }, 'subject_audience_mismatch'],
    // The ID token of an application has the same aud, and Entra's can have neither nonce nor at_hash.
    ['promise 2: no token without scopes', GUID, { aud: GUID }, 'subject_audience_mismatch'],
    ['promise 2: no token with empty scopes', GUID, { aud: GUID, scp: ' ' }, 'subject_audience_mismatch'],
  ])('%s', async (_, audience, claims, expected) => {
    expect(await outcome(claims, {}, at(audience))).toBe(expected)
  })

  it('promise 2: counts for the issuer that it names, and for the server whose file has it', async () => {
    const claims = { aud: GUID, scp: 'x' }
    expect(await outcome(claims, {}, at(GUID, 'https://other.example'))).toBe('subject_audience_mismatch')
    expect(await outcome(claims)).toBe('subject_audience_mismatch')
  })
})
