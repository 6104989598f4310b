import { UnsecuredJWT } from 'jose'
import { afterEach, describe, expect, it } from 'vitest'
import type { DialectName, Spoiled } from '../doubles/providers.ts'
import { startProviderPlace, type ProviderPlace } from '../support/provider-place.ts'

let place: ProviderPlace | undefined
afterEach(async () => {
  await place?.close()
  place = undefined
})
const at = async (...args: Parameters<typeof startProviderPlace>): Promise<ProviderPlace> =>
  (place = await startProviderPlace(...args))

interface Failure {
  readonly code: string
  readonly message: string
  readonly facts: Readonly<Record<string, unknown>>
}
const failure = (work: Promise<unknown>): Promise<Failure> =>
  work.then(
    () => {
      throw new Error('it was given')
    },
    (error: unknown) => error as Failure,
  )

const HOUR = 3_600_000

/** A user connects, the token is used, it ends and is refreshed. @returns the tokens before and after */
const connectAndRefresh = async (
  { connect, obtain, double, clock }: ProviderPlace,
  life: number,
): Promise<[string, string]> => {
  await connect()
  const first = (await obtain()).token.reveal()
  expect(double.isLive(first)).toBe(true)
  clock.forward(life)
  const second = (await obtain()).token.reveal()
  expect([second === first, double.isLive(second)]).toEqual([false, true])
  return [first, second]
}

describe('fault 61, promise 1: what a provider gives unasked is judged when the user connects', () => {
  const surplus: Spoiled = {
    act: true,
    how: (answer) => ({ status: 200, body: { ...answer, scope: 'read write company openid email' } }),
  }
  const refresh = { rotates: true, narrows: false, ends_access_token: false }
  const client = { variables: { host: 'dev-1.okta.com' } }

  it('nothing is connected, the tokens are ended, and the message names the settings', async () => {
    const { double, connect, grant } = await at('okta', { client, provider: { refresh } })
    double.spoil.push(surplus)
    expect(await failure(connect())).toMatchObject({
      code: 'scope_not_asked',
      facts: { surplus: 'company', downstream: 'vendor' },
      next: expect.stringMatching(/answers\.ignored_scopes.*over_scoped: mark/s) as string,
    })
    expect([await grant(), double.hasGrants()]).toEqual([undefined, false])
  })

  it('fault 65: the tokens are not ended where the provider would end a grant with them that is in use', async () => {
    const { double, connect, obtain, grant } = await at('okta', {
      client,
      provider: { refresh, revocation_ends: 'session' },
    })
    await connect()
    const inUse = (await obtain()).token.reveal()
    let unasked = ''
    double.spoil.push({
      act: true,
      how: (answer) => {
        unasked = String(answer['access_token'])
        return { status: 200, body: { ...answer, scope: 'read write company' } }
      },
    })
    expect((await failure(connect())).code).toBe('scope_not_asked')
    expect([double.isLive(inUse), double.isLive(unasked)]).toEqual([true, true])
    expect((await grant())?.status).toBe('active')
  })

  it('scopes that open nothing are no surplus, and an over-scoped grant is marked or narrowed where the files say so', async () => {
    const ignoring = await at('okta', { client, provider: { refresh, answers: { ignored_scopes: ['company'] } } })
    ignoring.double.spoil.push(surplus)
    await ignoring.connect()
    expect(await ignoring.obtain()).toMatchObject({ scopes: ['read', 'write'], overScoped: false })
    await ignoring.close()
    const marking = await at('okta', { client, provider: { refresh }, downstream: { over_scoped: 'mark' } })
    marking.double.spoil.push(surplus)
    expect((await marking.connect()).scopes).toEqual(['read', 'write'])
    expect(await marking.obtain()).toMatchObject({ scopes: ['company', 'read', 'write'], overScoped: true })
    await marking.close()
    const narrowing = await at('okta', { client, provider: { refresh: { ...refresh, narrows: true } } })
    narrowing.double.spoil.push(surplus)
    await narrowing.connect()
    expect(await narrowing.obtain()).toMatchObject({ scopes: ['read', 'write'], overScoped: false })
    expect(narrowing.double.requests.at(-1)).toMatchObject({ grant_type: 'refresh_token', scope: 'read write' })
  })
})

describe('fault 74: whether a grant outlives the session at the provider', () => {
  it('is a choice of the downstream', async () => {
    const client = { variables: { host: 'dev-1.okta.com' } }
    const asked: unknown[] = []
    for (const downstream of [{}, { offline: false }]) {
      const one = await startProviderPlace('okta', { client, downstream })
      await one.connect()
      asked.push(one.double.authorizations[0]!['scope'])
      await one.close()
    }
    expect(asked).toEqual(['read write offline_access', 'read write'])
  })
})

describe('a user connects, the token is refreshed, and the grant is ended', () => {
  it('requirement 36: at GitHub, whose errors have status 200 and whose scopes come with commas', async () => {
    const { double, obtain, revoke, connect, clock } = await at('github')
    await connect()
    const first = await obtain()
    expect(first.scopes).toEqual(['read', 'write'])
    // Past the moment from which others refresh ahead: the token that is out goes on working.
    clock.forward(7 * HOUR)
    expect((await obtain()).token.reveal()).toBe(first.token.reveal())
    expect(double.requests).toHaveLength(1)
    clock.forward(HOUR)
    const second = await obtain()
    expect([double.isLive(first.token.reveal()), double.isLive(second.token.reveal()), second.scopes]).toEqual([
      false,
      true,
      ['read', 'write'],
    ])
    expect([await revoke(), double.hasGrants()]).toEqual(['done', false])
  })

  it("requirement 36: GitHub's refusal with status 200 ends the grant, in its words", async () => {
    const { double, obtain, connect, clock, grant } = await at('github')
    await connect()
    double.spoil.push({
      how: () => ({
        status: 200,
        body: { error: 'bad_refresh_token', error_description: 'The refresh token passed is incorrect or expired.' },
      }),
    })
    clock.forward(9 * HOUR)
    expect(await failure(obtain())).toMatchObject({
      code: 'reconnect_required',
      facts: { problem: 'invalid_grant: bad_refresh_token: The refresh token passed is incorrect or expired.' },
    })
    expect((await grant())?.status).toBe('reconnect_required')
  })

  it('requirement 37: at Google, which keeps its refresh token and is told of an end by the token alone', async () => {
    const one = await at('google')
    await connectAndRefresh(one, HOUR)
    expect(one.double.requests.map((each) => each['refresh_token'] !== undefined)).toEqual([false, true])
    expect(one.double.authorizations[0]).not.toHaveProperty('include_granted_scopes')
    expect([await one.revoke(), one.double.hasGrants()]).toEqual(['done', false])
  })

  it("requirement 38: at Slack, whose user's token stands inside, never the bot's around it", async () => {
    const one = await at('slack')
    await one.connect()
    const { token, fields, scopes } = await one.obtain()
    expect([token.reveal().startsWith('at-'), fields, scopes]).toEqual([
      true,
      { 'team.id': 'T9TK3CUKW' },
      ['read', 'write'],
    ])
    expect(one.double.authorizations[0]).toMatchObject({ user_scope: 'read,write' })
    expect(one.double.authorizations[0]).not.toHaveProperty('scope')
    one.clock.forward(12 * HOUR)
    expect(one.double.isLive((await one.obtain()).token.reveal())).toBe(true)
    expect([await one.revoke(), one.double.hasGrants()]).toEqual(['done', false])
  })

  it("requirement 38: `ok: false` ends the grant, and an answer without a user's token is none", async () => {
    const one = await at('slack')
    one.double.spoil.push({
      act: true,
      how: ({ authed_user: _, ...rest }) => ({ status: 200, body: { ...rest, authed_user: { id: 'U1234' } } }),
    })
    expect((await failure(one.connect())).code).toBe('provider_refused')
    await one.connect()
    one.double.spoil.push({ how: () => ({ status: 200, body: { ok: false, error: 'invalid_refresh_token' } }) })
    one.clock.forward(13 * HOUR)
    expect(await failure(one.obtain())).toMatchObject({
      code: 'reconnect_required',
      facts: { problem: 'invalid_grant: invalid_refresh_token' },
    })
  })

  it("requirement 39: at Entra, at the endpoints of the tenant's own directory, whose old refresh tokens go on", async () => {
    const one = await at('entra', { client: { variables: { tenant: 'contoso.example' } } })
    await connectAndRefresh(one, 2 * HOUR)
    expect(one.double.authorizations[0]?.['scope']).toBe('read write offline_access')
    expect((await one.grant())?.scopes).toEqual(['read', 'write'])
    // A lost answer costs nothing there.
    one.double.spoil.push({ act: true, how: 'destroy' })
    one.clock.forward(2 * HOUR)
    expect((await failure(one.obtain())).code).toBe('provider_unavailable')
    expect(one.double.isLive((await one.obtain()).token.reveal())).toBe(true)
    expect(await one.revoke()).toBe('not_offered')
  })

  it('requirement 39: a claims challenge goes to the server, and along when the user connects again; the grant stays', async () => {
    const one = await at('entra', { client: { variables: { tenant: 'contoso.example' } } })
    await one.connect()
    const claims = '{"access_token":{"capolids":{"essential":true,"values":["00000000-0000-0000-0000-000000000001"]}}}'
    one.double.spoil.push({
      how: () => ({
        status: 400,
        body: {
          error: 'interaction_required',
          error_description: 'AADSTS50076: you must use multi-factor authentication.',
          claims,
        },
      }),
    })
    one.clock.forward(2 * HOUR)
    expect(await failure(one.obtain())).toMatchObject({
      code: 'step_up_required',
      facts: { claims, connect_url: 'https://deputy.example/connect/link' },
    })
    expect([one.links, (await one.grant())?.status]).toEqual([[{ scopes: ['read', 'write'], claims }], 'active'])
    await one.connect({ claims })
    expect(one.double.authorizations.at(-1)?.['claims']).toBe(claims)
    expect(one.double.isLive((await one.obtain()).token.reveal())).toBe(true)
  })

  it('requirement 40: at Okta, where the use of an old refresh token ends the grant', async () => {
    const one = await at('okta', { client: { variables: { host: 'dev-1.okta.com' } } })
    await connectAndRefresh(one, 2 * HOUR)
    expect([await one.revoke(), one.double.hasGrants()]).toEqual(['done', false])
  })

  it('requirement 40: at Auth0, with the audience of the downstream; only its refresh tokens can be ended', async () => {
    const one = await at('auth0', {
      client: { variables: { host: 'acme.auth0.com' } },
      downstream: { authorization_parameters: { audience: 'https://orders.example/api' } },
    })
    await connectAndRefresh(one, 25 * HOUR)
    expect([await one.revoke(), one.double.hasGrants()]).toEqual(['done', false])
  })

  it('promise 4: what can be ended is ended, where a service ends refresh tokens alone', async () => {
    const one = await at('auth0', {
      client: { variables: { host: 'acme.auth0.com' } },
      downstream: { authorization_parameters: { audience: 'https://orders.example/api' } },
      provider: { revocation: 'rfc7009' },
    })
    await one.connect()
    expect([await one.revoke(), one.double.hasGrants()]).toEqual(['done', false])
  })

  it('requirement 41: at Atlassian, within whose leeway a lost answer is asked for again at once', async () => {
    const one = await at('atlassian')
    await one.connect()
    one.clock.forward(HOUR)
    one.double.spoil.push({ act: true, how: 'destroy' })
    expect(one.double.isLive((await one.obtain()).token.reveal())).toBe(true)
    expect(one.double.requests.map((each) => each['grant_type'])).toEqual([
      'authorization_code',
      'refresh_token',
      'refresh_token',
    ])
    expect((await one.grant())?.status).toBe('active')
    expect(await one.revoke()).toBe('not_offered')
  })

  it("requirement 41: Atlassian's invalid_grant with status 403 ends the grant", async () => {
    const one = await at('atlassian')
    await one.connect()
    one.clock.forward(HOUR)
    one.double.spoil.push({
      how: () => ({
        status: 403,
        body: { error: 'invalid_grant', error_description: 'Unknown or invalid refresh token.' },
      }),
    })
    expect(await failure(one.obtain())).toMatchObject({
      code: 'reconnect_required',
      facts: { problem: 'invalid_grant: Unknown or invalid refresh token.' },
    })
  })

  it('requirement 42: at Notion, in JSON, without scopes, with a token that does not end', async () => {
    const one = await at('notion', { scopes: [] })
    await one.connect()
    const first = await one.obtain()
    expect([first.fields, one.double.authorizations[0]?.['scope'], first.expiresAt - one.clock.now()]).toEqual([
      { workspace_id: 'b1f2', bot_id: '3c90c3cc' },
      undefined,
      24 * HOUR,
    ])
    one.clock.forward(500 * HOUR)
    expect((await one.obtain()).token.reveal()).toBe(first.token.reveal())
    expect([await one.revoke(), one.double.hasGrants()]).toEqual(['done', false])
  })

  it('requirement 42: a token without end and without a refresh token is handed out for no longer than the downstream says, and the grant stays', async () => {
    const one = await at('notion', { scopes: [], downstream: { lifetime: '1h' } })
    one.double.spoil.push({ act: true, how: ({ refresh_token: _, ...answer }) => ({ status: 200, body: answer }) })
    await one.connect()
    for (let day = 0; day < 3; day += 1) {
      const { token, expiresAt } = await one.obtain()
      expect([one.double.requests.length, token.reveal().startsWith('at-'), expiresAt - one.clock.now()]).toEqual([
        1,
        true,
        HOUR,
      ])
      one.clock.forward(24 * HOUR)
    }
  })

  it('requirement 42: at Linear, with commas between the scopes that are asked for', async () => {
    const one = await at('linear')
    await connectAndRefresh(one, 24 * HOUR)
    expect([one.double.authorizations[0]?.['scope'], await one.revoke(), one.double.hasGrants()]).toEqual([
      'read,write',
      'done',
      false,
    ])
  })

  it('requirement 42: at Salesforce, which is asked how long its token lives, and whose instance is told to the server', async () => {
    const one = await at('salesforce')
    await one.connect()
    const { fields, expiresAt } = await one.obtain()
    expect(fields).toEqual({ instance_url: `${one.double.url}/instance` })
    expect(Math.abs(expiresAt - one.clock.now() - HOUR)).toBeLessThan(2000)
    one.clock.forward(HOUR)
    const again = await one.obtain()
    expect([one.double.isLive(again.token.reveal()), again.fields]).toEqual([true, fields])
    expect([await one.revoke(), one.double.hasGrants()]).toEqual(['done', false])
  })

  it('requirement 42: at Zoom, also for the client itself by account_credentials', async () => {
    const one = await at('zoom')
    await connectAndRefresh(one, HOUR)
    expect(one.double.isLive((await one.ofClient()).token.reveal())).toBe(true)
    expect(one.double.requests.at(-1)).toMatchObject({ grant_type: 'account_credentials', account_id: 'acct' })
    expect([await one.revoke(), one.double.hasGrants()]).toEqual(['done', false])
  })

  it('requirement 42: at GitLab, whose refresh names the redirect URI and ends both old tokens', async () => {
    const one = await at('gitlab')
    const [first] = await connectAndRefresh(one, 2 * HOUR)
    expect([one.double.isLive(first), one.double.requests.at(-1)?.['redirect_uri']]).toEqual([
      false,
      'https://deputy.example/connect/callback',
    ])
    expect([await one.revoke(), one.double.hasGrants()]).toEqual(['done', false])
  })

  for (const [name, hours, outcome] of [
    ['hubspot', 1, 'done'],
    ['discord', 168, 'done'],
    ['dropbox', 4, 'done'],
    ['stripe', 1, 'not_offered'],
  ] as const satisfies readonly (readonly [DialectName, number, string])[]) {
    it(`requirement 42: at ${name}`, async () => {
      const one = await at(name, name === 'stripe' ? { scopes: [] } : {})
      await connectAndRefresh(one, hours * HOUR)
      expect([await one.revoke(), one.double.hasGrants()]).toEqual([outcome, outcome === 'not_offered'])
    })
  }

  it('at Twitch, whose scopes are a list and whose errors are sentences', async () => {
    const one = await at('twitch')
    await connectAndRefresh(one, 4 * HOUR)
    one.double.spoil.push({
      how: () => ({ status: 400, body: { error: 'Bad Request', status: 400, message: 'Invalid refresh token' } }),
    })
    one.clock.forward(4 * HOUR)
    expect(await failure(one.obtain())).toMatchObject({
      code: 'reconnect_required',
      facts: { problem: 'invalid_grant: Invalid refresh token' },
    })
    expect([await one.revoke(), one.double.hasGrants()]).toEqual(['done', false])
  })

  for (const name of ['github', 'slack', 'linear', 'dropbox'] as const) {
    it(`promise 4: a grant at ${name} whose access token has ended by itself is ended there nevertheless`, async () => {
      const one = await at(name)
      await one.connect()
      one.clock.forward(48 * HOUR)
      expect([one.double.hasGrants(), await one.revoke(), one.double.hasGrants()]).toEqual([true, 'done', false])
    })
  }

  it('a lost answer where an old refresh token ends the family is never asked for again at once', async () => {
    const one = await at('okta', { client: { variables: { host: 'dev-1.okta.com' } } })
    await one.connect()
    one.clock.forward(2 * HOUR)
    one.double.spoil.push({ act: true, how: 'destroy' })
    expect((await failure(one.obtain())).code).toBe('provider_unavailable')
    expect([one.double.requests.length, (await one.grant())?.status]).toEqual([2, 'uncertain'])
  })
})

/** An access token by RFC 9068, as far as Deputy reads it. */
const aToken = (claims: object): string =>
  `${Buffer.from('{"alg":"RS256","typ":"at+jwt"}').toString('base64url')}.${new UnsecuredJWT({ iss: 'https://vendor.example', ...claims }).encode().split('.')[1]}.c2lnbmF0dXJlLW9mLXRoZS12ZW5kb3ItNDcxMQ`

describe('an answer to a refresh that is no good', () => {
  const bad: Readonly<Record<string, { readonly spoilt: Spoiled; readonly code: string; readonly problem: string }>> = {
    'a page in HTML': {
      spoilt: {
        how: () => ({
          status: 200,
          type: 'text/html',
          body: '<html><script>var t="rt-0123456789abcdef0123"</script><h1>We are down for maintenance</h1><p>Session 0123456789abcdef0123456789</p></html>',
        }),
      },
      code: 'provider_refused',
      problem: 'We are down for maintenance',
    },
    'an error with status 200': {
      spoilt: { how: () => ({ status: 200, body: { error: 'server_hiccup' } }) },
      code: 'provider_refused',
      problem: 'members error',
    },
    'of another type of token': {
      spoilt: { act: true, how: (answer) => ({ status: 200, body: { ...answer, token_type: 'mac' } }) },
      code: 'provider_refused',
      problem: 'not what the standard says',
    },
    'of a token that is a number': {
      spoilt: { act: true, how: (answer) => ({ status: 200, body: { ...answer, access_token: 4711 } }) },
      code: 'provider_refused',
      problem: 'not what the standard says',
    },
    'a token for another user': {
      spoilt: {
        act: true,
        how: (answer) => ({ status: 200, body: { ...answer, access_token: aToken({ sub: 'mallory' }) } }),
      },
      code: 'provider_refused',
      problem: 'for another user',
    },
    'a token that has expired': {
      spoilt: { act: true, how: (answer) => ({ status: 200, body: { ...answer, expires_in: 0 } }) },
      code: 'provider_refused',
      problem: 'has expired',
    },
    'a token that ends before it begins': {
      spoilt: { act: true, how: (answer) => ({ status: 200, body: { ...answer, expires_in: -60 } }) },
      code: 'provider_refused',
      problem: 'has expired',
    },
    'a redirect': {
      spoilt: { how: () => ({ status: 302, location: 'https://evil.example/token' }) },
      code: 'provider_refused',
      problem: 'not what the standard says',
    },
    'a body without end': {
      spoilt: { act: true, how: (answer) => ({ status: 200, body: { ...answer, filler: 'x'.repeat(2_000_000) } }) },
      code: 'egress_refused',
      problem: 'longer than',
    },
    'half of one': { spoilt: { act: true, how: 'half' }, code: 'provider_unavailable', problem: 'did not arrive' },
    nothing: {
      spoilt: { act: true, how: () => ({ status: 200, body: '' }) },
      code: 'provider_refused',
      problem: 'not what the standard says',
    },
    'no answer at all': {
      spoilt: { act: true, how: 'destroy' },
      code: 'provider_unavailable',
      problem: 'did not arrive',
    },
  }
  for (const [what, { spoilt, code, problem }] of Object.entries(bad)) {
    it(`${what}: is one error in the provider's words without its secrets, and the grant stays`, async () => {
      const one = await at('zoom')
      one.double.spoil.push({
        act: true,
        how: (answer) => ({ status: 200, body: { ...answer, access_token: aToken({ sub: 'alice' }) } }),
      })
      await one.connect()
      one.clock.forward(HOUR)
      one.double.spoil.push(spoilt)
      const error = await failure(one.obtain())
      expect([error.code, error.message]).toEqual([code, expect.stringContaining(problem)])
      expect(one.records).toMatchObject([
        {
          id: 'request-1',
          event: 'grant.refresh',
          outcome: 'failed',
          detail: { auditNote: expect.stringContaining(problem) },
        },
      ])
      expect(JSON.stringify([error.facts, one.records])).not.toMatch(/at-|rt-|vendor-secret|eyJ|0123456789/)
      const kept = await one.grant()
      expect(kept?.status).not.toBe('reconnect_required')
      // A token that could not be used is never handed out afterwards.
      const after = await one.obtain().then(
        ({ token }) => token.reveal(),
        (again: Failure) => again.code,
      )
      expect(after.startsWith('at-') || after === 'reconnect_required').toBe(true)
    })
  }

  it('a token for another user is not kept, nor the refresh token that came with it', async () => {
    const one = await at('gitlab')
    one.double.spoil.push({
      act: true,
      how: (answer) => ({ status: 200, body: { ...answer, access_token: aToken({ sub: 'alice' }) } }),
    })
    await one.connect()
    one.clock.forward(2 * HOUR)
    one.double.spoil.push({
      how: () => ({
        status: 200,
        body: {
          access_token: aToken({ sub: 'mallory' }),
          refresh_token: 'rt-of-mallory',
          token_type: 'Bearer',
          expires_in: 3600,
        },
      }),
    })
    await failure(one.obtain())
    expect(one.double.isLive((await one.obtain()).token.reveal())).toBe(true)
    expect(one.double.requests.map((each) => each['refresh_token'])).not.toContain('rt-of-mallory')
  })

  it('a scope that nobody asked for: is refused', async () => {
    const one = await at('zoom')
    await one.connect()
    one.clock.forward(HOUR)
    one.double.spoil.push({
      act: true,
      how: (answer) => ({ status: 200, body: { ...answer, scope: 'read write admin' } }),
    })
    expect((await failure(one.obtain())).code).toBe('scope_not_narrowable')
    expect((await one.grant())?.status).toBe('active')
  })

  it('without a word about its end: is taken to live as long as the file says', async () => {
    const one = await at('zoom', { provider: { access_token_lifetime: '10m' } })
    await one.connect()
    one.clock.forward(HOUR)
    one.double.spoil.push({ act: true, how: ({ expires_in: _, ...answer }) => ({ status: 200, body: answer }) })
    expect((await one.obtain()).expiresAt - one.clock.now()).toBe(600_000)
  })
})
