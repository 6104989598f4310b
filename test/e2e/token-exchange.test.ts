import { randomUUID, type KeyObject } from 'node:crypto'
import { Agent as HttpAgent } from 'node:http'
import { decodeJwt, decodeProtectedHeader, SignJWT } from 'jose'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'
import { Agent, fetch as undiciFetch } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { aCompany, LEDGER, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  aKeyPair,
  ask,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'

let issuer: TestIssuer
let daemon: RunningDaemon
const calendar = aKeyPair()
const agent = aKeyPair()

beforeAll(async () => {
  issuer = await startTestIssuer()
  daemon = await startDaemonHere(aCompany({ issuer: issuer.url, keys: { calendar: calendar.jwk, agent: agent.jwk } }))
})
afterAll(async () => {
  await daemon?.close()
  await issuer?.close()
})

const userToken = (claims: object = {}, header: object = {}): Promise<string> =>
  issuer.sign({ aud: RESOURCES.notes, org: 'acme', ...claims }, { ...header })
const exchange = (subject: string, more: Record<string, string> = {}): Promise<Answer> =>
  daemon.token({
    grant_type: TOKEN_EXCHANGE,
    subject_token: subject,
    subject_token_type: ACCESS_TOKEN,
    audience: 'ledger',
    ...more,
  })
const assertion = (server: string, key: KeyObject, claims: object = {}, header: object = {}): Promise<string> => {
  const now = Math.floor(Date.now() / 1000)
  return new SignJWT({
    iss: server,
    sub: server,
    aud: `http://127.0.0.1:${daemon.port}`,
    iat: now,
    exp: now + 60,
    jti: randomUUID(),
    ...claims,
  })
    .setProtectedHeader({ alg: 'ES256', ...header })
    .sign(key)
}
const asServer = async (
  server: string,
  key: KeyObject,
  claims: object = {},
  header: object = {},
): Promise<Record<string, string>> => ({
  client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
  client_assertion: await assertion(server, key, claims, header),
})
const reason = ({ body }: Answer): unknown => body['reason']

describe('token exchange', () => {
  it('requirement 18: answers access_token, issued_token_type, token_type and expires_in, and the scope', async () => {
    const { status, body, headers } = await exchange(await userToken(), { scope: 'ledger:read' })
    expect(status).toBe(200)
    expect(body).toMatchObject({ issued_token_type: ACCESS_TOKEN, token_type: 'Bearer', scope: 'ledger:read' })
    expect(body['expires_in']).toBeGreaterThan(200)
    expect(headers['cache-control']).toBe('no-store')
  })

  it('requirement 18: half of an actor, an unknown target and a scope that is too wide have the codes of the standard', async () => {
    const subject = await userToken()
    for (const half of [{ actor_token: subject }, { actor_token_type: ACCESS_TOKEN }])
      expect(await exchange(subject, half)).toMatchObject({
        status: 400,
        body: { error: 'invalid_request', reason: 'malformed_request' },
      })
    expect(await exchange(`${subject}x`)).toMatchObject({ status: 400, body: { error: 'invalid_request' } })
    expect(await exchange(subject, { audience: 'nowhere' })).toMatchObject({
      status: 400,
      body: { error: 'invalid_target' },
    })
    expect(await exchange(subject, { scope: 'ledger:burn' })).toMatchObject({
      status: 400,
      body: { error: 'invalid_scope' },
    })
  })

  it('requirement 19: a token is taken and issued as the type that the request names, and every other type is refused', async () => {
    const uri = (name: string): string => `urn:ietf:params:oauth:token-type:${name}`
    for (const taken of ['access_token', 'jwt'])
      expect((await exchange(await userToken(), { subject_token_type: uri(taken), scope: 'ledger:read' })).status).toBe(
        200,
      )
    for (const refused of ['refresh_token', 'saml1', 'saml2', 'nothing'])
      expect(await exchange(await userToken(), { subject_token_type: uri(refused) })).toMatchObject({
        status: 400,
        body: { error: 'invalid_request', reason: 'unsupported_token_type' },
      })
    for (const asked of ['access_token', 'jwt'])
      expect(
        (await exchange(await userToken(), { requested_token_type: uri(asked), scope: 'ledger:read' })).body,
      ).toMatchObject({ issued_token_type: uri(asked) })
    for (const refused of ['refresh_token', 'id_token', 'saml2'])
      expect(await exchange(await userToken(), { requested_token_type: uri(refused) })).toMatchObject({
        status: 400,
        body: { error: 'invalid_request', reason: 'unsupported_token_type' },
      })
  })

  it('requirement 21: mints an at+jwt with iss, exp, aud, sub, client_id, iat, jti and scope, signed by a published key', async () => {
    const { body } = await exchange(await userToken(), { scope: 'ledger:read' })
    const token = String(body['access_token'])
    const { keys } = (await ask(daemon, { path: '/.well-known/jwks.json' })).body as { keys: { kid: string }[] }
    expect(decodeProtectedHeader(token)).toMatchObject({ typ: 'at+jwt', alg: 'ES256', kid: keys[0]!.kid })
    expect(decodeJwt(token)).toMatchObject({
      iss: `http://127.0.0.1:${daemon.port}`,
      aud: LEDGER,
      sub: 'alice',
      client_id: 'notes',
      scope: 'ledger:read',
      act: { sub: 'notes' },
      tenant: 'acme',
    })
  })

  it('promise 1: issues the intersection of what was asked, registered and allowed', async () => {
    const narrowed = await exchange(await userToken(), { scope: 'ledger:read ledger:write ledger:delete' })
    expect(narrowed.body).toMatchObject({ scope: 'ledger:read' })
    const wide = await exchange(await userToken({ groups: ['accounting'] }), { scope: 'ledger:read ledger:write' })
    expect(wide.body).toMatchObject({ scope: 'ledger:read ledger:write' })
    const asked = await exchange(await userToken({ groups: ['accounting'] }), { scope: 'ledger:write' })
    expect(asked.body).toMatchObject({ scope: 'ledger:write' })
  })

  it('promise 1: refuses when nothing is left, with the standard code', async () => {
    expect((await exchange(await userToken(), { scope: 'ledger:delete' })).body).toMatchObject({
      error: 'invalid_scope',
      reason: 'scope_not_available',
    })
    expect((await exchange(await userToken({ groups: [] }), { scope: 'ledger:read' })).body).toMatchObject({
      error: 'access_denied',
      reason: 'policy_denied',
    })
    expect((await exchange(await userToken(), { audience: 'nowhere' })).body).toMatchObject({ error: 'invalid_target' })
  })

  it('promise 1: never lives longer than the subject token', async () => {
    const exp = Math.floor(Date.now() / 1000) + 40
    const { body } = await exchange(await userToken({ exp }), { scope: 'ledger:read' })
    expect(decodeJwt(String(body['access_token'])).exp).toBeLessThanOrEqual(exp)
    expect(body['expires_in']).toBeLessThanOrEqual(40)
  })

  it('promise 2: refuses a token that was issued for another server, and records it', async () => {
    const answer = await exchange(await userToken({ aud: RESOURCES.calendar }))
    expect(answer).toMatchObject({
      status: 400,
      body: { error: 'invalid_request', reason: 'subject_audience_mismatch' },
    })
    const { out } = await daemon.deputy('audit', 'query', '--outcome', 'refused', '--server', 'notes', '--json')
    expect(out).toContain('subject_audience_mismatch')
    expect((await daemon.deputy('explain', String(answer.body['correlation_id']))).out).toContain(RESOURCES.calendar)
  })

  it('threat 12: a missing, empty or doubled subject token never falls back to the caller', async () => {
    const form = { grant_type: TOKEN_EXCHANGE, subject_token_type: ACCESS_TOKEN, audience: 'ledger' }
    expect((await daemon.token(form)).body).toMatchObject({ error: 'invalid_request', reason: 'parameter_missing' })
    expect((await daemon.token({ ...form, subject_token: '' })).body).toMatchObject({ reason: 'parameter_missing' })
    const doubled = new URLSearchParams({ ...form, subject_token: await userToken() })
    doubled.append('subject_token', await userToken())
    expect((await daemon.token(doubled)).body).toMatchObject({ reason: 'parameter_repeated' })
  })

  it('threat 13: act or may_act without the matching actor is refused', async () => {
    expect(reason(await exchange(await userToken({ act: { sub: 'somebody' } })))).toBe('actor_mismatch')
    expect(reason(await exchange(await userToken({ may_act: { sub: 'calendar' } })))).toBe('actor_mismatch')
    expect((await exchange(await userToken({ may_act: { sub: 'notes' } }), { scope: 'ledger:read' })).status).toBe(200)
  })

  it('threat 14: algorithm confusion, none, embedded keys and unknown crit are refused', async () => {
    const other = aKeyPair()
    const now = Math.floor(Date.now() / 1000)
    const claims = { iss: issuer.url, sub: 'alice', aud: RESOURCES.notes, org: 'acme', iat: now, exp: now + 300 }
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
    const forged = [
      `${encode({ alg: 'none', typ: 'at+jwt' })}.${encode(claims)}.`,
      await new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(JSON.stringify(calendar.jwk))),
      await new SignJWT(claims).setProtectedHeader({ alg: 'ES256', jwk: other.jwk as object }).sign(other.privateKey),
      await userToken({}, { jku: 'https://evil.example/jwks' }),
      await userToken({}, { typ: 'dpop+jwt' }),
      (await userToken()).replace(/^[^.]+/, encode({ alg: 'ES256', kid: 'key', crit: ['future'], future: 1 })),
    ]
    for (const token of forged) expect(reason(await exchange(token))).toMatch(/subject_(token_invalid|issuer_unknown)/)
  })

  it('requirement 20: a chain of servers nests act, outermost current, and only the one it was minted for can go on', async () => {
    const first = await daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: await userToken(),
      subject_token_type: ACCESS_TOKEN,
      audience: 'agent',
      scope: 'chat',
    })
    const chained = String(first.body['access_token'])
    const second = await daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: chained,
      subject_token_type: ACCESS_TOKEN,
      audience: 'agent',
      scope: 'chat',
      ...(await asServer('agent', agent.privateKey)),
    })
    expect(decodeJwt(String(second.body['access_token']))).toMatchObject({
      sub: 'alice',
      act: { sub: 'agent', act: { sub: 'notes' } },
    })
    expect(reason(await exchange(chained))).toBe('subject_audience_mismatch')
  })

  it('threat 19: what descends from a revoked token is void, and cannot be exchanged', async () => {
    const subject = await userToken({ jti: 'parent' })
    const child = String(
      (
        await daemon.token({
          grant_type: TOKEN_EXCHANGE,
          subject_token: subject,
          subject_token_type: ACCESS_TOKEN,
          audience: 'agent',
          scope: 'chat',
        })
      ).body['access_token'],
    )
    const credentials = await asServer('agent', agent.privateKey)
    const introspect = async (): Promise<unknown> =>
      (
        await ask(daemon, {
          path: '/oauth2/introspect',
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
          body: new URLSearchParams({ token: child, ...(await asServer('agent', agent.privateKey)) }).toString(),
        })
      ).body['active']
    expect(await introspect()).toBe(true)
    expect((await daemon.deputy('revoke', '--token', `${issuer.url}#parent`)).code).toBe(0)
    expect(await introspect()).toBe(false)
    expect(
      reason(
        await daemon.token({
          grant_type: TOKEN_EXCHANGE,
          subject_token: child,
          subject_token_type: ACCESS_TOKEN,
          audience: 'agent',
          scope: 'chat',
          ...credentials,
        }),
      ),
    ).toBe('revoked')
    expect(reason(await exchange(subject))).toBe('revoked')
  })

  it('threat 17: introspection answers only who got the token or whom it is for', async () => {
    const token = String((await exchange(await userToken(), { scope: 'ledger:read' })).body['access_token'])
    const introspect = async (credentials: Record<string, string>): Promise<Answer> =>
      ask(daemon, {
        path: '/oauth2/introspect',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ token, ...credentials }).toString(),
      })
    expect((await introspect({})).body).toMatchObject({ active: true, sub: 'alice' })
    expect((await introspect(await asServer('calendar', calendar.privateKey))).text).toBe('{"active":false}')
    expect((await introspect({ client_id: 'nobody' })).status).toBe(401)
  })

  it("requirement 23: revoking a token of one's own ends it, an unknown one is no error, another's is refused", async () => {
    const token = String((await exchange(await userToken(), { scope: 'ledger:read' })).body['access_token'])
    const post = (path: string, form: Record<string, string>): Promise<Answer> =>
      ask(daemon, {
        path,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams(form).toString(),
      })
    expect((await post('/oauth2/revoke', { token, ...(await asServer('calendar', calendar.privateKey)) })).status).toBe(
      401,
    )
    expect((await post('/oauth2/revoke', { token: 'unknown' })).status).toBe(200)
    expect((await post('/oauth2/revoke', { token })).status).toBe(200)
    expect((await post('/oauth2/introspect', { token })).body).toEqual({ active: false })
  })

  it('requirement 22: a client assertion is for our issuer alone, is used once, and is signed by a registered key', async () => {
    const form = { grant_type: 'client_credentials', audience: 'ledger', scope: 'ledger:read' }
    const credentials = await asServer('calendar', calendar.privateKey)
    expect((await daemon.token({ ...form, ...credentials })).status).toBe(200)
    expect(reason(await daemon.token({ ...form, ...credentials }))).toBe('workload_unverified')
    expect(
      reason(
        await daemon.token({
          ...form,
          ...(await asServer('calendar', calendar.privateKey, { aud: 'https://elsewhere.example' })),
        }),
      ),
    ).toBe('workload_unverified')
    expect(
      reason(
        await daemon.token({
          ...form,
          ...(await asServer('calendar', calendar.privateKey, {
            aud: [`http://127.0.0.1:${daemon.port}`, 'https://elsewhere.example'],
          })),
        }),
      ),
    ).toBe('workload_unverified')
    expect(reason(await daemon.token({ ...form, ...(await asServer('calendar', agent.privateKey)) }))).toBe(
      'workload_unverified',
    )
    expect(
      reason(
        await daemon.token({
          ...form,
          ...(await asServer('calendar', calendar.privateKey, {}, { jwk: calendar.jwk })),
        }),
      ),
    ).toBe('workload_unverified')
    expect(
      reason(
        await daemon.token({
          ...form,
          ...(await asServer('calendar', calendar.privateKey, { exp: Math.floor(Date.now() / 1000) + 3600 })),
        }),
      ),
    ).toBe('workload_unverified')
  })

  it('client credentials are for what a server may do itself, without act', async () => {
    const { body } = await daemon.token({
      grant_type: 'client_credentials',
      audience: 'ledger',
      ...(await asServer('calendar', calendar.privateKey)),
    })
    const claims = decodeJwt(String(body['access_token']))
    expect(claims).toMatchObject({ sub: 'calendar', scope: 'ledger:read' })
    expect(claims['act']).toBeUndefined()
    expect(
      reason(
        await daemon.token({
          grant_type: 'client_credentials',
          audience: 'mail',
          ...(await asServer('calendar', calendar.privateKey)),
        }),
      ),
    ).toBe('target_unknown')
  })

  it('answers a standard client: oauth4webapi does the exchange, introspects and revokes', async () => {
    const dispatcher = new Agent({ connect: { socketPath: daemon.socketPath } })
    const customFetch = (url: string, init: object): Promise<Response> =>
      undiciFetch(url, { ...init, dispatcher }) as unknown as Promise<Response>
    const options = { [oauth.customFetch]: customFetch, [oauth.allowInsecureRequests]: true } as const
    const at = new URL(`http://127.0.0.1:${daemon.port}`)
    const server = await oauth.processDiscoveryResponse(
      at,
      await oauth.discoveryRequest(at, { ...options, algorithm: 'oauth2' }),
    )
    const client: oauth.Client = { client_id: 'notes' }
    const response = await oauth.genericTokenEndpointRequest(
      server,
      client,
      oauth.None(),
      TOKEN_EXCHANGE,
      { subject_token: await userToken(), subject_token_type: ACCESS_TOKEN, audience: 'ledger' },
      options,
    )
    const result = await oauth.processGenericTokenEndpointResponse(server, client, response)
    expect(result.scope).toBe('ledger:read')
    const active = await oauth.processIntrospectionResponse(
      server,
      client,
      await oauth.introspectionRequest(server, client, oauth.None(), result.access_token, options),
    )
    expect(active.active).toBe(true)
    await oauth.processRevocationResponse(
      await oauth.revocationRequest(server, client, oauth.None(), result.access_token, options),
    )
    await dispatcher.close()
  })

  it('answers a standard client: openid-client reads the errors of the standard', async () => {
    const dispatcher = new Agent({ connect: { socketPath: daemon.socketPath } })
    const customFetch = ((url: string, init: object) =>
      undiciFetch(url, { ...init, dispatcher })) as unknown as openid.CustomFetch
    const configuration = await openid.discovery(
      new URL(`http://127.0.0.1:${daemon.port}`),
      'calendar',
      undefined,
      openid.PrivateKeyJwt({
        key: await crypto.subtle.importKey(
          'jwk',
          calendar.privateKey.export({ format: 'jwk' }) as object,
          { name: 'ECDSA', namedCurve: 'P-256' },
          false,
          ['sign'],
        ),
      }),
      { algorithm: 'oauth2', execute: [openid.allowInsecureRequests], [openid.customFetch]: customFetch },
    )
    const granted = await openid.clientCredentialsGrant(configuration, { audience: 'ledger', scope: 'ledger:read' })
    expect(granted.access_token).toBeDefined()
    await expect(
      openid.clientCredentialsGrant(configuration, { audience: 'ledger', scope: 'ledger:write' }),
    ).rejects.toMatchObject({ error: 'invalid_scope' })
    await dispatcher.close()
  })

  it("threat 4: an error says nothing of another caller's request, also where many come at once over the same connections", async () => {
    const markers = (caller: number): string[] =>
      ['target', 'scope', 'tool', 'user'].map((of) => `${of}-of-${caller}-x`)
    const mistakes: ((marks: readonly string[]) => Promise<Record<string, string>>)[] = [
      async ([target]) => ({ subject_token: await userToken(), audience: target! }),
      async ([, scope]) => ({ subject_token: await userToken(), audience: 'ledger', scope: scope! }),
      async ([, , tool, user]) => ({ subject_token: await userToken({ sub: user }), audience: 'mail', tool: tool! }),
      async ([, , , user]) => ({ subject_token: await userToken({ sub: user, groups: [] }), audience: 'ledger' }),
      async ([, , , user]) => ({
        subject_token: await userToken({ sub: user, aud: RESOURCES.agent }),
        audience: 'agent',
      }),
      async ([, , , user]) => ({ subject_token: `${user}.not.jwt`, audience: 'ledger' }),
      async ([target]) => ({ subject_token: await userToken(), audience: 'ledger', client_id: target! }),
    ]
    const agent = new HttpAgent({ keepAlive: true, maxSockets: 4 })
    const answers = await Promise.all(
      Array.from({ length: 140 }, async (_, caller) => {
        const marks = markers(caller)
        const { status, text } = await ask(
          { socketPath: daemon.socketPath },
          {
            path: '/oauth2/token',
            headers: { 'content-type': 'application/x-www-form-urlencoded' },
            agent,
            body: new URLSearchParams({
              grant_type: TOKEN_EXCHANGE,
              subject_token_type: ACCESS_TOKEN,
              ...(await mistakes[caller % mistakes.length]!(marks)),
            }).toString(),
          },
        )
        return { caller, status, text }
      }),
    )
    agent.destroy()
    for (const { caller, status, text } of answers) {
      expect(status).toBeGreaterThanOrEqual(400)
      const named = [...text.matchAll(/(?:target|scope|tool|user)-of-(\d+)-x/g)].map(([, of]) => Number(of))
      expect(named.filter((of) => of !== caller)).toEqual([])
    }
    expect(new Set(answers.map(({ text }) => JSON.parse(text).correlation_id)).size).toBe(answers.length)
  })

  it('several targets: minted tokens name them all, others are refused', async () => {
    const several = new URLSearchParams({
      grant_type: TOKEN_EXCHANGE,
      subject_token: await userToken({ groups: ['accounting'] }),
      subject_token_type: ACCESS_TOKEN,
      audience: 'ledger',
      scope: 'ledger:read chat',
    })
    several.append('resource', RESOURCES.agent)
    const { body } = await daemon.token(several)
    expect(decodeJwt(String(body['access_token'])).aud).toEqual([LEDGER, RESOURCES.agent])
    several.append('audience', 'mail')
    expect((await daemon.token(several)).body).toMatchObject({
      error: 'invalid_target',
      reason: 'targets_incompatible',
    })
  })
})

describe('tenants and secrets', () => {
  it("promise 8, threat 24, requirement 18: each tenant gets its own secret, which is no access token (N_A), and never another's", async () => {
    const { runCli } = await import('../support/process.ts')
    expect(
      (await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'mail-key'], 'acme-mail-canary\n'))
        .code,
    ).toBe(0)
    const acme = await exchange(await userToken(), { audience: 'mail' })
    expect(acme.body).toMatchObject({
      access_token: 'acme-mail-canary',
      token_type: 'N_A',
      issued_token_type: 'urn:deputy:params:oauth:token-type:secret',
    })
    const globex = await exchange(await userToken({ org: 'globex' }), { audience: 'mail' })
    expect(globex.body).toMatchObject({ reason: 'secret_missing' })
    expect(globex.text).not.toContain('canary')
  })

  it('a token without a fitting tenant claim belongs to nobody', async () => {
    expect(reason(await exchange(await userToken({ org: 'initech' })))).toBe('subject_tenant_unknown')
  })

  it('threat 15: a disabled user, a retired server and a disabled downstream are refused on a cache hit too', async () => {
    const subject = await userToken({ sub: 'carol' })
    expect((await exchange(subject, { scope: 'ledger:read' })).status).toBe(200)
    await daemon.deputy('user', 'disable', '--tenant', 'acme', '--user', 'carol')
    expect(reason(await exchange(subject, { scope: 'ledger:read' }))).toBe('subject_user_disabled')
    await daemon.deputy('user', 'enable', '--tenant', 'acme', '--user', 'carol')
    expect((await exchange(subject, { scope: 'ledger:read' })).status).toBe(200)
    await daemon.deputy('server', 'retire', 'notes')
    await daemon.deputy('reload')
    expect(reason(await exchange(subject, { scope: 'ledger:read' }))).toBe('workload_not_approved')
    await daemon.deputy('server', 'approve', 'notes')
    await daemon.deputy('reload')
    expect((await exchange(subject, { scope: 'ledger:read' })).status).toBe(200)
  })

  it('a bad file changes nothing and is reported', async () => {
    await daemon.write({ 'servers/broken.yaml': 'server: broken\nresource: nonsense\n' })
    const { code, out } = await daemon.deputy('reload')
    expect(code).toBe(3)
    expect(out).toContain('servers/broken.yaml:2')
    expect((await exchange(await userToken(), { scope: 'ledger:read' })).status).toBe(200)
    const { rm } = await import('node:fs/promises')
    await rm(`${daemon.home}/servers/broken.yaml`)
    expect((await daemon.deputy('reload')).code).toBe(0)
  })
})
