import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Server } from '../../src/config/server.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import { ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE } from '../../src/oauth/token-type.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { refuse } from '../../src/errors.ts'
import { startIssuerDouble, type IssuerDouble } from '../doubles/issuer.ts'
import { startOpenIdServer } from '../peers/openid-server.ts'
import { aClock, aServer, aSnapshot, aTenant } from '../support/snapshot.ts'
import { startSubjects, type Subjects } from '../support/subjects.ts'

const RESOURCE = 'https://notes.example/mcp'
const notes = aServer({ tenants: '*', login_session: true })
const clock = aClock()
let secretMissing = false
let snapshot: Snapshot
let [one, two]: IssuerDouble[] = []
let subjects: Subjects
const introspection = { client_id: 'deputy + co', client_secret: { secret: 'introspection' } }
const trusting = (...issuers: (IssuerDouble | undefined)[]) => ({
  issuers: issuers.map((issuer) => ({ issuer: issuer!.url, introspection })),
})
beforeAll(async () => {
  one = await startIssuerDouble(clock.now)
  two = await startIssuerDouble(clock.now)
  subjects = await startSubjects({
    snapshot: () => snapshot,
    clock,
    resolveSecret: (_reference, tenant) =>
      secretMissing
        ? Promise.reject(refuse('secret_missing', { tenant, secret: 'introspection' }))
        : Promise.resolve(new Secret('s:e c%')),
  })
})
afterAll(async () => {
  await subjects?.close()
  await one?.close()
  await two?.close()
})
beforeEach(() => {
  snapshot = aSnapshot({ servers: [notes], tenants: [aTenant(trusting(one))] })
  secretMissing = false
  for (const issuer of [one!, two!]) {
    issuer.asked.length = 0
    issuer.outage = undefined
    issuer.introspect = () => ({ active: false })
  }
})

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'accepted',
    (error: { code: string }) => error.code,
  )
const verify = (token: string, tokenType: string = ACCESS_TOKEN_TYPE, server: Server = notes) =>
  subjects.verifier.verify({ token: new Secret(token), tokenType, server })
let tokens = 0
const opaque = (): string => `opaque-${(tokens += 1)}`
const active = (more: object = {}) => ({
  active: true,
  sub: 'alice',
  aud: RESOURCE,
  exp: Math.floor(clock.now() / 1000) + 600,
  ...more,
})
const introspections = ({ asked }: IssuerDouble): number => asked.filter((path) => path === '/introspect').length

describe('an opaque token', () => {
  it('of a real OpenID provider is confirmed by introspection', async () => {
    const idp = await startOpenIdServer({
      title: 'Opaque',
      users: { alice: {} },
      configuration: {
        clients: [
          {
            client_id: 'deputy',
            client_secret: 'deputy-secret',
            redirect_uris: [],
            grant_types: ['client_credentials'],
            response_types: [],
          },
        ],
        features: {
          introspection: { enabled: true, allowedPolicy: () => true },
          clientCredentials: { enabled: true },
          resourceIndicators: {
            enabled: true,
            useGrantedResource: () => true,
            getResourceServerInfo: (_context, resource) => ({
              scope: 'mcp',
              audience: resource,
              accessTokenTTL: 300,
              accessTokenFormat: 'opaque',
            }),
          },
        },
      },
    })
    const own = await startSubjects({
      snapshot: () => snapshot,
      clock: { now: Date.now },
      resolveSecret: () => Promise.resolve(new Secret('deputy-secret')),
    })
    snapshot = aSnapshot({
      servers: [notes],
      tenants: [
        aTenant({
          issuers: [
            {
              issuer: idp.url,
              introspection: { ...introspection, client_id: 'deputy' },
              claims: { user: 'client_id' },
            },
          ],
        }),
      ],
    })
    const issue = async (resource: string): Promise<Secret> => {
      const response = await fetch(`${idp.url}/token`, {
        method: 'POST',
        headers: { authorization: `Basic ${btoa('deputy:deputy-secret')}` },
        body: new URLSearchParams({ grant_type: 'client_credentials', resource }),
      })
      return new Secret(((await response.json()) as { access_token: string }).access_token)
    }
    const ask = (token: Secret) => own.verifier.verify({ token, tokenType: ACCESS_TOKEN_TYPE, server: notes })
    expect(await ask(await issue(RESOURCE))).toMatchObject({
      user: 'deputy',
      issuer: idp.url,
      how: 'introspection',
      tenant: { tenant: 'acme' },
    })
    expect(await codeOf(ask(await issue('https://other.example/mcp')))).toBe('subject_audience_mismatch')
    expect(await codeOf(ask(new Secret('made-up')))).toBe('subject_token_invalid')
    await own.close()
    await idp.close()
  })

  it('is shown with our own client authentication, form-encoded before it is joined', async () => {
    let seen: { form: URLSearchParams; authorization: string | undefined } | undefined
    one!.introspect = (form, authorization) => {
      seen = { form, authorization }
      return active()
    }
    const token = opaque()
    expect(await verify(token)).toMatchObject({ user: 'alice', how: 'introspection' })
    expect(seen?.form.get('token')).toBe(token)
    expect(Buffer.from(seen!.authorization!.slice(6), 'base64').toString()).toBe('deputy+%2B+co:s%3Ae+c%25')
  })

  it('is accepted only if it is active, for us, of that issuer and not over', async () => {
    const now = Math.floor(clock.now() / 1000)
    const answers: [object, string][] = [
      [active(), 'accepted'],
      [active({ aud: ['https://x.example', RESOURCE] }), 'accepted'],
      [active({ iss: one!.url }), 'accepted'],
      [{ active: false }, 'subject_token_invalid'],
      [{ ...active(), active: false }, 'subject_token_invalid'],
      [active({ aud: 'https://other.example' }), 'subject_audience_mismatch'],
      [active({ aud: undefined }), 'subject_token_invalid'],
      [active({ exp: undefined }), 'subject_token_invalid'],
      [active({ exp: now - 1 }), 'subject_token_expired'],
      [active({ nbf: now + 600 }), 'subject_token_invalid'],
      [active({ sub: '' }), 'subject_token_invalid'],
      [active({ iss: 'https://evil.example' }), 'subject_token_invalid'],
      [active({ act: { sub: 'agent' } }), 'actor_mismatch'],
      [{ active: 'true' }, 'issuer_not_understood'],
      [{}, 'issuer_not_understood'],
    ]
    for (const [answer, expected] of answers) {
      one!.introspect = () => answer
      expect([answer, await codeOf(verify(opaque()))]).toEqual([answer, expected])
    }
  })

  it('is asked about again after half a minute, so that its end at the issuer is noticed', async () => {
    const token = opaque()
    one!.introspect = () => active()
    for (let at = 0; at < 5; at += 1) expect(await codeOf(verify(token))).toBe('accepted')
    expect(introspections(one!)).toBe(1)
    one!.introspect = () => ({ active: false })
    clock.forward(31_000)
    expect(await codeOf(verify(token))).toBe('subject_token_invalid')
  })

  it('ends when it ends, also while the answer is kept', async () => {
    const token = opaque()
    const answer = active({ exp: Math.floor(clock.now() / 1000) + 5 })
    one!.introspect = () => answer
    expect(await codeOf(verify(token))).toBe('accepted')
    clock.forward(6000)
    expect(await codeOf(verify(token))).toBe('subject_token_expired')
  })

  it('promise 8: is shown to no issuer when those of several tenants would have to see it', async () => {
    snapshot = aSnapshot({
      servers: [notes],
      tenants: [aTenant(trusting(one)), aTenant({ tenant: 'globex', ...trusting(two) })],
    })
    two!.introspect = () => active()
    expect(await codeOf(verify(opaque()))).toBe('subject_token_invalid')
    expect([introspections(one!), introspections(two!)]).toEqual([0, 0])
    expect(await codeOf(verify(opaque(), ACCESS_TOKEN_TYPE, aServer({ server: 'single', tenants: ['globex'] })))).toBe(
      'accepted',
    )
    expect([introspections(one!), introspections(two!)]).toEqual([0, 1])
  })

  it('is asked about at each issuer of the one tenant', async () => {
    snapshot = aSnapshot({ servers: [notes], tenants: [aTenant(trusting(one, two))] })
    two!.introspect = () => active()
    expect(await verify(opaque())).toMatchObject({ issuer: two!.url })
  })

  it('belongs to the tenant that its claim names, where several share an issuer', async () => {
    const sharing = (tenant: string) =>
      aTenant({
        tenant,
        issuers: [{ issuer: one!.url, introspection, claims: { tenant: { claim: 'org', value: tenant } } }],
      })
    snapshot = aSnapshot({ servers: [notes], tenants: [sharing('acme'), sharing('globex')] })
    one!.introspect = () => active({ org: 'globex' })
    expect((await verify(opaque())).tenant.tenant).toBe('globex')
    one!.introspect = () => active({ org: 'initech' })
    expect(await codeOf(verify(opaque()))).toBe('subject_tenant_unknown')
  })

  it('is no JWT, and needs an issuer that confirms it', async () => {
    expect(await codeOf(verify(opaque(), JWT_TOKEN_TYPE))).toBe('subject_token_invalid')
    snapshot = aSnapshot({ servers: [notes], tenants: [aTenant({ issuers: [{ issuer: one!.url }] })] })
    expect(await codeOf(verify(opaque()))).toBe('subject_token_invalid')
    expect(introspections(one!)).toBe(0)
  })

  it('an issuer that is down is told as such, a secret that is missing here as that', async () => {
    one!.outage = 'refuse'
    expect(await codeOf(verify(opaque()))).toBe('issuer_unreachable')
    secretMissing = true
    expect(await codeOf(verify(opaque()))).toBe('secret_missing')
  })
})

describe('a login session', () => {
  const signIn = (more: object = {}) =>
    subjects.store.sessions.put({
      uid: 1000,
      tenant: 'acme',
      user: 'alice',
      issuer: one!.url,
      groups: ['g'],
      claims: {},
      signedInAt: clock.now(),
      expiresAt: clock.now() + 60_000,
      ...more,
    })
  const of = (server = notes, uid = 1000) => codeOf(subjects.verifier.fromSession({ uid, server }))

  it('stands for the user, for servers that may act on it and no others', async () => {
    await signIn()
    expect(await subjects.verifier.fromSession({ uid: 1000, server: notes })).toMatchObject({
      user: 'alice',
      groups: ['g'],
      how: 'login_session',
      tenant: { tenant: 'acme' },
      actors: [],
    })
    expect(await of(aServer())).toBe('subject_session_not_allowed')
    expect(await of(notes, 1001)).toBe('subject_session_missing')
  })

  it('ends with its time, with its tenant, and with the trust in the issuer that signed the user in', async () => {
    await signIn()
    expect(await of()).toBe('accepted')
    snapshot = aSnapshot({ servers: [notes], tenants: [aTenant({ ...trusting(one), enabled: false })] })
    expect(await of()).toBe('subject_session_missing')
    snapshot = aSnapshot({ servers: [notes], tenants: [aTenant(trusting(two))] })
    expect(await of()).toBe('subject_session_missing')
    snapshot = aSnapshot({ servers: [notes], tenants: [aTenant(trusting(one))] })
    clock.forward(61_000)
    expect(await of()).toBe('subject_session_missing')
  })
})

describe('fault 68: an issuer that is asked about every token', () => {
  const all = { ...introspection, for: 'all' }
  const asking = (): void => {
    snapshot = aSnapshot({
      servers: [notes],
      tenants: [aTenant({ issuers: [{ issuer: one!.url, introspection: all }] })],
    })
  }

  it('promise 4: a JWT that is no longer active there is refused within 30 seconds, and one that cannot be asked about too', async () => {
    asking()
    const token = await one!.sign({})
    one!.introspect = () => ({ active: true, sub: 'alice' })
    expect(await verify(token)).toMatchObject({ user: 'alice', how: 'introspection' })
    await verify(token)
    expect(introspections(one!)).toBe(1)
    one!.introspect = () => ({ active: false })
    clock.forward(30_001)
    expect(await codeOf(verify(token))).toBe('subject_token_invalid')
    one!.introspect = () => ({ active: true, sub: 'mallory' })
    clock.forward(30_001)
    expect(await codeOf(verify(token))).toBe('subject_token_invalid')
    one!.outage = 'refuse'
    clock.forward(30_001)
    expect(await codeOf(verify(token))).toBe('issuer_unreachable')
    // Without that setting a JWT counts until its end.
    one!.outage = undefined
    snapshot = aSnapshot({ servers: [notes], tenants: [aTenant(trusting(one))] })
    expect(await verify(token)).toMatchObject({ how: 'jwt' })
  })

  it('a lightweight token gets the claims that it leaves out, those that it has count first, and its signature is checked before anybody is asked', async () => {
    asking()
    const light = { sub: undefined, aud: undefined }
    const token = await one!.sign({ ...light, groups: ['signed'] })
    one!.introspect = () => ({ active: true, sub: 'alice', aud: RESOURCE, groups: ['answered'], acr: '1' })
    expect(await verify(token)).toMatchObject({ user: 'alice', groups: ['signed'], acr: '1', how: 'introspection' })
    const asked = introspections(one!)
    expect(await codeOf(verify(await two!.sign({ ...light, iss: one!.url })))).toBe('subject_token_invalid')
    expect(introspections(one!)).toBe(asked)
    one!.introspect = () => ({ active: true, sub: 'alice', aud: 'https://other.example/mcp' })
    expect(await codeOf(verify(await one!.sign(light)))).toBe('subject_audience_mismatch')
    snapshot = aSnapshot({ servers: [notes], tenants: [aTenant(trusting(one))] })
    await expect(verify(await one!.sign(light))).rejects.toThrow(/lightweight token.*introspection\.for: all/)
  })
})
