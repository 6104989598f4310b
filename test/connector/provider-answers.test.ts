import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import * as openid from 'openid-client'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answersSchema } from '../../src/config/provider.ts'
import { expiresInOf } from '../../src/credentials/provider/answer-members.ts'
import { wordsOf } from '../../src/credentials/provider/failure.ts'
import { toStandard, toStandardResponse, type AnswerFacts } from '../../src/credentials/provider/dialect.ts'
import { startOAuthProvider, type OAuthProviderDouble, type RawAnswer } from '../doubles/oauth-provider.ts'
import { startGrants, type Grants } from '../support/grants.ts'

const FACTS: AnswerFacts = {
  answers: answersSchema.parse({}),
  scope_separator: ' ',
  discovery: false,
  issuer: undefined,
}
const CHALLENGE = { 'www-authenticate': 'Basic realm="provider"' }

describe('fault 13: an error with a WWW-Authenticate beside it', () => {
  let server: Server
  let configuration: openid.Configuration
  let answer: { status: number; headers: Record<string, string>; body: string }
  beforeAll(async () => {
    server = createServer((_request, response) => {
      response.writeHead(answer.status, answer.headers).end(answer.body)
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    configuration = new openid.Configuration(
      {
        issuer: url,
        token_endpoint: `${url}/token`,
        authorization_endpoint: `${url}/authorize`,
        introspection_endpoint: `${url}/introspect`,
        revocation_endpoint: `${url}/revoke`,
        pushed_authorization_request_endpoint: `${url}/par`,
      },
      'client',
      undefined,
      openid.ClientSecretBasic('secret'),
    )
    openid.allowInsecureRequests(configuration)
    configuration[openid.customFetch] = async (to, init) => {
      const response = await fetch(to, init as RequestInit)
      const form = init.body instanceof URLSearchParams ? (init.body.get('grant_type') ?? undefined) : undefined
      return toStandardResponse(FACTS, response, await response.text(), { grantType: form })
    }
  })
  afterAll(() => {
    server.closeAllConnections()
    server.close()
  })

  const paths: Readonly<Record<string, () => Promise<unknown>>> = {
    code: () =>
      openid.authorizationCodeGrant(configuration, new URL('https://deputy.example/callback?code=c&state=s'), {
        expectedState: 's',
      }),
    refresh: () => openid.refreshTokenGrant(configuration, 'token'),
    'client credentials': () => openid.clientCredentialsGrant(configuration),
    exchange: () =>
      openid.genericGrantRequest(configuration, 'urn:ietf:params:oauth:grant-type:token-exchange', {
        subject_token: 't',
      }),
    introspection: () => openid.tokenIntrospection(configuration, 'token'),
    revocation: () => openid.tokenRevocation(configuration, 'token'),
    'pushed request': () => openid.buildAuthorizationUrlWithPAR(configuration, { redirect_uri: 'https://d.example' }),
  }
  for (const [path, request] of Object.entries(paths)) {
    it(`is read from the body: ${path}`, async () => {
      const json = { 'content-type': 'application/json', ...CHALLENGE }
      answer = { status: 401, headers: json, body: '{"error":"invalid_client","error_description":"no such client"}' }
      const error = await request().catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ error: 'invalid_client', status: 401 })
      expect(wordsOf(error)).toBe('invalid_client: no such client')
    })
  }

  it('is read from the challenge where the body says nothing, and is never called an answer outside the standard', async () => {
    answer = { status: 401, headers: { 'www-authenticate': 'Bearer error="invalid_client"' }, body: '' }
    expect(await paths['refresh']!().catch((thrown: unknown) => thrown)).toMatchObject({ error: 'invalid_client' })
    answer = { status: 401, headers: CHALLENGE, body: '' }
    expect(wordsOf(await paths['refresh']!().catch((thrown: unknown) => thrown))).toBe(
      'it answered 401 and did not say why',
    )
  })
})

describe('faults 13 to 16: a grant', () => {
  let provider: OAuthProviderDouble
  let grants: Grants
  beforeEach(async () => {
    provider = await startOAuthProvider()
    grants = await startGrants(provider, { timeout: 1000 })
  })
  afterEach(async () => {
    await grants?.close()
    await provider?.close()
  })
  const code = (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'given',
      (error: { code: string }) => error.code,
    )
  const after = async (raw: RawAnswer): Promise<[string, string]> => {
    const user = `user-${Math.random()}`
    const grant = await grants.give({ user })
    provider.raw.push(raw)
    return [await code(grants.obtain(undefined, user)), (await grants.stored(grant)).grant.status]
  }

  it('fault 16: is over when the provider names it, in whatever dress', async () => {
    for (const [body, more] of [
      ['{"error":"invalid_grant"}', { headers: CHALLENGE, status: 401 }],
      ['{"error":"INVALID_GRANT"}'],
      ['{"error":" Invalid_Grant "}', { status: 403 }],
      ['{"error":{"code":"invalid_grant","message":"Token revoked"}}'],
      ['{"error":{"type":"invalid_grant"}}'],
      ['{"errors":[{"code":"invalid_grant"}]}'],
      ['invalid_grant', { headers: { 'content-type': 'text/plain' } }],
      ['Error: invalid_grant (token expired)', { headers: { 'content-type': 'text/plain' } }],
      [
        'error=invalid_grant&error_description=gone',
        { headers: { 'content-type': 'application/x-www-form-urlencoded' } },
      ],
      ['{"error":"invalid_grant"}', { status: 500 }],
      ['{"error":"invalid_grant"}', { status: 200 }],
    ] as const)
      expect([body, ...(await after({ status: 400, body, ...more }))]).toEqual([
        body,
        'reconnect_required',
        'reconnect_required',
      ])
  })

  it("fault 16: outlives every refusal that is the client's or the admin's, however often it comes", async () => {
    const grant = await grants.give()
    const refusals: RawAnswer[] = [
      { status: 401, body: '{"error":"unauthorized_client"}' },
      { status: 401, body: '{"error":"invalid_client"}', headers: CHALLENGE },
      { status: 403, body: '{"error":"access_denied","error_description":"Realm not enabled"}' },
      { status: 404, body: '{"error":"Realm does not exist"}' },
      {
        status: 404,
        body: '<html>invalid_grant is what this page is about</html>',
        headers: { 'content-type': 'text/html' },
      },
      { status: 400, body: '' },
      { status: 400, body: '{"error":{"code":"invalid_client","message":"invalid_grant"}}' },
      { status: 400, body: 'invalid_client or invalid_grant' },
    ]
    for (const raw of [...refusals, ...refusals]) {
      provider.raw.push(raw)
      expect(await code(grants.obtain())).toBe('provider_refused')
      expect((await grants.stored(grant)).grant.status).toBe('active')
    }
    // In doubt about a lost answer as well.
    provider.spoil.token.push('failing')
    await code(grants.obtain())
    for (const raw of refusals) {
      provider.raw.push(raw)
      expect([raw.body, await code(grants.obtain())]).toEqual([raw.body, 'provider_refused'])
    }
    expect(await code(grants.obtain())).toBe('given')
  })

  it('fault 60: of a provider that does not rotate loses nothing by lost answers', async () => {
    provider.rotates = false
    grants.configure({ provider: { refresh: { rotates: false } } })
    const grant = await grants.give()
    for (let count = 0; count < 3; count += 1) {
      provider.spoil.token.push('failing')
      expect(await code(grants.obtain())).toBe('provider_unavailable')
      expect((await grants.stored(grant)).grant.status).toBe('active')
    }
    expect(await code(grants.obtain())).toBe('given')
  })

  it('fault 16: keeps the rotated refresh token of a form-encoded answer', async () => {
    const grant = await grants.give()
    const before = (await grants.stored(grant)).tokens.refreshToken!.reveal()
    provider.raw.push({
      status: 200,
      headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' },
      body: (answer) => new URLSearchParams(answer as Record<string, string>).toString(),
    })
    const given = await grants.obtain()
    expect(given.expiresAt).toBe(grants.clock.now() + 3_600_000)
    const { tokens } = await grants.stored(grant)
    expect(tokens.refreshToken!.reveal()).not.toBe(before)
    expect(provider.isLive(tokens.refreshToken!.reveal())).toBe(true)
    expect(given.scopes).toEqual(['read', 'write'])
  })

  it('fault 14: goes on with the refresh token that it has when an empty one comes back', async () => {
    const grant = await grants.give()
    provider.rotates = false
    const before = (await grants.stored(grant)).tokens.refreshToken!.reveal()
    for (const refresh_token of ['', ' ', null]) {
      provider.raw.push({ status: 200, body: (answer) => JSON.stringify({ ...answer, refresh_token }) })
      expect((await grants.obtain()).token.reveal()).toMatch(/^access-/)
      expect((await grants.stored(grant)).tokens.refreshToken!.reveal()).toBe(before)
      grants.clock.forward(3_600_000)
    }
  })

  it('fault 15: believes no impossible expires_in, and refreshes once for an empty one', async () => {
    await grants.give()
    for (const expires_in of [1e13, Date.now(), Math.floor(Date.now() / 1000), '', ' ', 'soon', null]) {
      provider.more = { expires_in }
      const { expiresAt } = await grants.obtain()
      // What the provider's file says.
      expect([expires_in, expiresAt - grants.clock.now()]).toEqual([expires_in, 3_600_000])
      const { length } = provider.refreshes
      await grants.obtain()
      expect(provider.refreshes).toHaveLength(length)
      grants.clock.forward(3_600_000)
    }
    provider.more = { expires_in: '120' }
    expect((await grants.obtain()).expiresAt - grants.clock.now()).toBe(120_000)
  })
})

it('fault 15: expires_in is a length of time in seconds of at most ten years, or says nothing', () => {
  const said = [0, -5, 0.5, 60, '60', ' 60 ', '60.9', 315_360_000]
  expect(said.map(expiresInOf)).toEqual([0, 0, 0, 60, 60, 60, 60, 315_360_000])
  for (const nothing of [
    315_360_001,
    1e13,
    Date.now(),
    Infinity,
    Number.NaN,
    '',
    ' ',
    'soon',
    '1e3',
    null,
    {},
    [60],
    true,
  ])
    expect([nothing, expiresInOf(nothing)]).toEqual([nothing, undefined])
})

it('fault 16: what only looks like a form is left as it is', () => {
  for (const text of ['', 'error', '<a href="?error=x">', 'see a=b or error=x', '{"error"'])
    expect(toStandard(FACTS, 400, text)).toBeUndefined()
})
