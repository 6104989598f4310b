import { UnsecuredJWT, type JWTPayload } from 'jose'
import { assert, boolean, constantFrom, integer, jsonValue, oneof, property, record, string } from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  placeholdersIn,
  providerFor,
  providerSchema,
  variablesSchema,
  type Provider,
} from '../../src/config/provider.ts'
import { fieldsOf, scopesOf, toBody, toStandard } from '../../src/credentials/provider/dialect.ts'

const aProvider = (given: object = {}): Provider =>
  providerSchema.parse({
    provider: 'p',
    name: 'P',
    authorization_endpoint: 'https://p.example/authorize',
    token_endpoint: 'https://p.example/token',
    ...given,
  })
const isValid = (given: object): boolean =>
  providerSchema.safeParse({ provider: 'p', name: 'P', token_endpoint: 'https://p.example/token', ...given }).success

describe("a provider's answer in the words of the standard", () => {
  const files = [
    {},
    { errors: 'error_member', scope_separator: ',' },
    { errors: 'ok_member', token_under: 'authed_user', token_type: 'bearer' },
  ].map((answers) => aProvider({ answers }))

  it("is made of whatever it says, without failing, and holds no token but the user's", () => {
    const member = oneof(string(), jsonValue())
    const token = record(
      { access_token: member, token_type: member, scope: member, expires_in: member, error: member, ok: boolean() },
      { requiredKeys: [] },
    )
    const body = record(
      { access_token: member, authed_user: oneof(token, member), error: member, ok: boolean(), scope: member },
      { requiredKeys: [] },
    )
    assert(
      property(
        constantFrom(...files),
        integer({ min: 200, max: 599 }),
        oneof(
          string(),
          body.map((each) => JSON.stringify(each)),
        ),
        constantFrom('authorization_code', 'refresh_token', undefined),
        (provider, status, text, grantType) => {
          const answer = toStandard(provider, status, text, grantType)
          if (answer === undefined) return
          expect(answer.status).toBeGreaterThanOrEqual(status >= 400 ? 400 : 200)
          if (grantType === undefined || answer.status >= 400 || answer.body['access_token'] === undefined) return
          const said = JSON.parse(text) as Record<string, unknown>
          const inner = said['authed_user'] as Record<string, unknown> | undefined
          const isObject = typeof inner === 'object' && inner !== null && !Array.isArray(inner)
          const isNested =
            provider.answers.token_under !== undefined &&
            (grantType === 'authorization_code' || (isObject && inner['access_token'] !== undefined))
          expect(answer.body['access_token']).toEqual(isNested ? inner?.['access_token'] : said['access_token'])
        },
      ),
    )
  })

  it('is an error where the provider says no, whatever the status', () => {
    expect(toStandard(files[1]!, 200, '{"error":"bad_code"}', 'authorization_code')).toMatchObject({
      status: 400,
      body: { error: 'bad_code' },
    })
    expect(toStandard(files[2]!, 200, '{"ok":false}', 'refresh_token')).toMatchObject({
      status: 400,
      body: { error: 'it does not say why' },
    })
    expect(
      toStandard(
        aProvider({ answers: { errors: 'error_member', error_codes: { gone: 'invalid_grant' } } }),
        200,
        '{"error":"gone","error_description":"it left"}',
      ),
    ).toEqual({ status: 400, body: { error: 'invalid_grant', error_description: 'gone: it left' } })
    expect(toStandard(aProvider({ answers: { errors: 'error_member' } }), 200, '{"error":"toString"}')).toMatchObject({
      body: { error: 'toString' },
    })
  })

  it("never takes the token around the user's for the user's", () => {
    for (const around of [
      '{"ok":true,"access_token":"bot","authed_user":{"id":"U1"}}',
      '{"ok":true,"access_token":"bot"}',
      '{"ok":true,"access_token":"bot","authed_user":null}',
    ]) {
      expect(toStandard(files[2]!, 200, around, 'authorization_code')!.body).not.toHaveProperty('access_token')
    }
  })

  it('names scopes with spaces between, from text or a list, without those that open nothing and nobody asked for', () => {
    const provider = aProvider({
      offline_scope: 'offline',
      answers: { scope_separator: ',', ignored_scopes: ['openid'] },
    })
    const { body } = toStandard(
      provider,
      200,
      '{"access_token":"a","scope":"read, write,offline,openid"}',
      'refresh_token',
    )!
    expect(body['scope']).toBe('read write offline openid')
    expect(scopesOf(provider, body as { scope: string; access_token: string }, ['read', 'write'], {})).toEqual([
      'read',
      'write',
    ])
    expect(scopesOf(provider, body as { scope: string; access_token: string }, ['read', 'openid'], {})).toEqual([
      'read',
      'write',
      'openid',
    ])
    expect(
      toStandard(provider, 200, '{"access_token":"a","scope":["read","admin"]}', 'refresh_token')!.body['scope'],
    ).toBe('read admin')
    expect(scopesOf(provider, { access_token: 'a' }, [], {})).toBeUndefined()
  })

  it('fault 70: names the scopes of the token where the file says so, and those of the answer where the token cannot be read', () => {
    const provider = aProvider({ issuer: 'https://login.example', answers: { scope_of: 'token' } })
    const scope = 'read write'
    const of = (claims: JWTPayload): string[] | undefined =>
      scopesOf(provider, { access_token: new UnsecuredJWT(claims).encode(), scope }, ['read'], {})
    expect(of({ iss: 'https://login.example', scope: 'openid read' })).toEqual(['read'])
    expect(of({ iss: 'https://login.example', scope: ['read', 'admin'] })).toEqual(['read', 'admin'])
    expect(of({ iss: 'https://login.example' })).toEqual(['read', 'write'])
    // What another has signed says nothing.
    expect(of({ iss: 'https://other.example', scope: 'read' })).toEqual(['read', 'write'])
    expect(scopesOf(provider, { access_token: 'opaque', scope }, ['read'], {})).toEqual(['read', 'write'])
    const plain = aProvider({ issuer: 'https://login.example' })
    const narrow = new UnsecuredJWT({ iss: 'https://login.example', scope: 'read' }).encode()
    expect(scopesOf(plain, { access_token: narrow, scope }, ['read'], {})).toEqual(['read', 'write'])
  })

  it('fault 3: scopes that say who the user is are no surplus, unless the downstream gives them a meaning', () => {
    const answer = { access_token: 'a', scope: 'openid profile email address phone offline_access read admin' }
    expect(scopesOf(aProvider({}), answer, ['read'], { read: 'Read' })).toEqual(['read', 'admin'])
    expect(scopesOf(aProvider({}), answer, ['read', 'openid'], { email: 'Read mail' })).toEqual([
      'openid',
      'email',
      'read',
      'admin',
    ])
  })

  it('lets through only plain values that the file lists', () => {
    const provider = aProvider({ response_fields: ['instance_url', 'team.id', 'live', 'deep'] })
    expect(
      fieldsOf(provider, {
        instance_url: 'https://x',
        team: { id: 7, name: 'n' },
        live: false,
        deep: { a: 1 },
        other: 'x',
      }),
    ).toEqual({ instance_url: 'https://x', 'team.id': '7', live: 'false' })
    expect(fieldsOf(provider, { instance_url: 'x'.repeat(1001), team: 'id' })).toEqual({})
    for (const name of [
      'access_token',
      'refresh_token',
      'id_token',
      'expires_in',
      'scope',
      'a.access_token',
      '__proto__',
      'constructor',
      'client_secret',
      'api_token',
    ])
      expect([name, isValid({ response_fields: [name] })]).toEqual([name, false])
  })

  it('requests are forms, or JSON where the provider wants that', () => {
    const form = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: 'a"b' })
    expect(toBody(aProvider(), form).body).toBe('grant_type=refresh_token&refresh_token=a%22b')
    expect(JSON.parse(toBody(aProvider({ token_requests: { body: 'json' } }), form).body)).toEqual({
      grant_type: 'refresh_token',
      refresh_token: 'a"b',
    })
  })
})

describe('the facts of a provider file', () => {
  const template = aProvider({
    variables: { host: { meaning: 'the host' }, realm: { meaning: 'the realm', default: 'main' } },
    authorization_endpoint: 'https://{host}/r/{realm}/authorize',
    token_endpoint: 'https://{host}/r/{realm}/token',
  })

  it("requirement 39: are those of the client's own directory", () => {
    expect(providerFor(template, { host: 'login.acme.example' }).token_endpoint).toBe(
      'https://login.acme.example/r/main/token',
    )
    expect(providerFor(template, { host: 'login.acme.example:8443', realm: 'other' }).authorization_endpoint).toBe(
      'https://login.acme.example:8443/r/other/authorize',
    )
  })

  it('threat 5: no value of a variable leaves its place in a URL', () => {
    for (const value of [
      'evil.example/x',
      'a@evil.example',
      'a#b',
      'a?b',
      'a b',
      '..',
      '../x',
      'a\\b',
      'a%2fb',
      '',
      'a\n',
      '{host}',
      '[::1]',
      'a:b',
    ])
      expect([value, variablesSchema.safeParse({ host: value }).success]).toEqual([value, false])
    assert(
      property(string(), (value) => {
        const parsed = variablesSchema.safeParse({ realm: value })
        if (!parsed.success) return
        const url = new URL(providerFor(template, { host: 'login.example', realm: value }).token_endpoint!)
        expect([url.host, url.pathname.split('/').length, url.search, url.hash]).toEqual(['login.example', 4, '', ''])
      }),
    )
  })

  it('are refused where they contradict each other, or name what is not there', () => {
    for (const given of [
      { token_endpoint: 'https://{host}/token' },
      { variables: { Host: { meaning: 'x' } } },
      { variables: { host: { meaning: 'x', default: 'a/b' } } },
      { issuer: 'https://p.example/{client_id}' },
      { refresh: { narrows: true, ends_access_token: true } },
      { revocation: 'rfc7009' },
      { revocation: 'token_in_path', revocation_endpoint: 'https://p.example/tokens' },
      { access_token_lifetime: 'introspect' },
      { token_requests: { headers: { Authorization: 'x' } } },
      { token_requests: { headers: { 'X-A': 'a\r\nb: c' } } },
      { token_requests: { headers: { 'content-type': 'x' } } },
      { discovery: true },
      { quirk: 'x' },
      { token_endpoint: 'javascript:{x}' },
    ])
      expect([JSON.stringify(given), isValid(given)]).toEqual([JSON.stringify(given), false])
    expect(placeholdersIn('https://{a}/{b_1}/{C}')).toEqual(['a', 'b_1'])
  })
})
