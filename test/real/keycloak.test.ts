/**
 * Deputy against a real Keycloak: one start, one realm and one daemon for all of it. Tokens of a realm look like this:
 * header `typ: JWT` for access tokens and ID tokens alike, client ids as audiences, UUIDs as users, groups as paths, roles in nested claims.
 */
import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  aKeycloakUser,
  findKeycloak,
  passSignIn,
  passwordToken,
  startKeycloak,
  type Keycloak,
  type Realm,
  type RealmParts,
} from '../peers/keycloak.ts'
import { createBrowser, type Browser, type Page } from '../peers/walk.ts'
import { ACCESS_TOKEN, prepareDaemon, TOKEN_EXCHANGE, type Answer, type Daemon } from '../support/daemon.ts'

const program = findKeycloak()
const NOTES = 'https://notes.example/mcp'
const SECRET = 'deputy-secret'

/** A client scope whose name is in `scope` of the token, and that puts an audience into it. */
const aScope = (name: string, audience?: string): object => ({
  name,
  protocol: 'openid-connect',
  attributes: { 'include.in.token.scope': 'true' },
  protocolMappers: audience === undefined ? [] : [anAudience(audience)],
})
const anAudience = (audience: string): object => ({
  name: `audience ${audience}`,
  protocol: 'openid-connect',
  protocolMapper: 'oidc-audience-mapper',
  config: { 'included.custom.audience': audience, 'access.token.claim': 'true', 'introspection.token.claim': 'true' },
})
const GROUPS = {
  name: 'groups',
  protocol: 'openid-connect',
  protocolMapper: 'oidc-group-membership-mapper',
  config: {
    'claim.name': 'groups',
    'full.path': 'true',
    'access.token.claim': 'true',
    'id.token.claim': 'true',
    'introspection.token.claim': 'true',
  },
}

/** Those of every new client; one that names its optional ones has to name these too, or its tokens have no `sub`. */
const defaultClientScopes = ['basic', 'profile', 'email', 'roles', 'acr', 'web-origins']
const optionalClientScopes = ['mcp', 'ledger:read', 'ledger:write', 'offline_access']
const AT_ONCE = 50
const CROWD = Array.from({ length: AT_ONCE }, (_, at) => `user-${at}`)
/** Where the MCP client is redirected to: nobody listens there. */
const CLIENT_REDIRECT = 'http://127.0.0.1:1/client'

/** What an admin makes in a realm for Deputy. */
const theRealm = (connect: string): RealmParts => {
  const ofDeputy = {
    secret: SECRET,
    standardFlowEnabled: true,
    redirectUris: [`${connect}/connect/*`],
    defaultClientScopes,
    optionalClientScopes,
    protocolMappers: [GROUPS],
  }
  return {
    settings: { passwordPolicy: 'hashAlgorithm(pbkdf2-sha256) and hashIterations(1)' },
    clientScopes: [
      aScope('ledger:read', 'ledger'),
      aScope('ledger:write', 'ledger'),
      aScope('company'),
      {
        name: 'mcp',
        protocol: 'openid-connect',
        attributes: { 'include.in.token.scope': 'false' },
        protocolMappers: [anAudience(NOTES), anAudience('deputy'), GROUPS],
      },
    ],
    clients: [
      {
        clientId: 'mcp-client',
        publicClient: true,
        directAccessGrantsEnabled: true,
        redirectUris: [CLIENT_REDIRECT],
        defaultClientScopes,
        optionalClientScopes,
      },
      // An admin who gives the server a client of its own, by its URI.
      { clientId: NOTES, secret: SECRET, directAccessGrantsEnabled: true },
      {
        clientId: 'light',
        secret: SECRET,
        directAccessGrantsEnabled: true,
        // Introspection knows the scopes of such a token by its `scope` alone, beside those of every token.
        defaultClientScopes: [...defaultClientScopes, 'mcp'],
        attributes: { 'client.use.lightweight.access.token.enabled': 'true' },
      },
      { clientId: 'ledger', bearerOnly: true },
      {
        ...ofDeputy,
        clientId: 'deputy',
        attributes: {
          'standard.token.exchange.enabled': 'true',
          'backchannel.logout.url': `${connect}/logout/acme`,
          'backchannel.logout.session.required': 'true',
        },
      },
      // A scope that comes unasked with every token.
      { ...ofDeputy, clientId: 'generous', defaultClientScopes: [...defaultClientScopes, 'company'] },
      { ...ofDeputy, clientId: 'short', attributes: { 'access.token.lifespan': '4' } },
    ],
    roles: { realm: [{ name: 'accounting' }], client: { ledger: [{ name: 'reader' }] } },
    groups: [{ name: 'sales', path: '/sales', subGroups: [{ name: 'emea', path: '/sales/emea' }] }],
    users: [
      aKeycloakUser('alice', {
        groups: ['/sales/emea'],
        realmRoles: ['accounting', 'offline_access'],
        clientRoles: { ledger: ['reader'] },
      }),
      ...['bob', 'carol', ...CROWD].map((name) => aKeycloakUser(name, { realmRoles: ['offline_access'] })),
    ],
  }
}

const downstream = (id: string, given: object): Record<string, object> => ({
  [`downstreams/${id}.yaml`]: {
    downstream: id,
    provider: 'realm',
    client: { client_id: 'deputy', client_secret: { file: 'client-secret' } },
    scopes: { 'ledger:read': 'Read the ledger', 'ledger:write': 'Write to the ledger' },
    ...given,
  },
})
const GRANT = { credential: 'oauth_grant', resource: 'https://ledger.example/api', token_audiences: ['ledger'] }

/**
 * A load balancer before Keycloak: while no server is there it answers as gateways do, with a page. For the first second it does not
 * know that yet (502), then it does (503).
 */
const startLoadBalancer = async (to: string): Promise<{ readonly url: string; close(): Promise<void> }> => {
  let missingSince: number | undefined
  const target = new URL(to)
  const server: Server = createServer((incoming, response) => {
    const outgoing = request(
      {
        host: target.hostname,
        port: target.port,
        path: incoming.url,
        method: incoming.method,
        headers: incoming.headers,
      },
      (answer) => {
        missingSince = undefined
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
        answer.on('error', () => response.destroy())
      },
    )
    outgoing.on('error', () => {
      missingSince ??= Date.now()
      const status = Date.now() - missingSince < 1000 ? 502 : 503
      if (response.headersSent) response.destroy()
      else response.writeHead(status, { 'content-type': 'text/html' }).end(`<html><h1>${status}</h1></html>`)
    })
    incoming.pipe(outgoing)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
}

describe.skipIf(program === undefined)('a real Keycloak', () => {
  let keycloak: Keycloak
  let realm: Realm
  let daemon: Daemon
  let balancer: Awaited<ReturnType<typeof startLoadBalancer>>
  /** The realm's issuer as the load balancer has it. */
  let balanced: string

  const tenant = (issuer: object = {}): object => ({
    tenant: 'acme',
    issuers: [
      {
        issuer: realm.issuer,
        claims: {
          display: 'preferred_username',
          groups: ['groups', 'realm_access.roles', { claim: 'resource_access.ledger.roles', prefix: 'ledger:' }],
        },
        ...issuer,
      },
      { issuer: balanced },
    ],
    sign_in: { issuer: realm.issuer, client_id: 'deputy', client_secret: { file: 'client-secret' } },
  })

  beforeAll(async () => {
    keycloak = await startKeycloak(program!)
    balancer = await startLoadBalancer(keycloak.url)
    daemon = await prepareDaemon({})
    realm = await keycloak.realm(theRealm(`http://127.0.0.1:${daemon.port}`))
    balanced = realm.issuer.replace(keycloak.url, balancer.url)
    // As an admin does it who knows nothing but the URL of the realm.
    const { code, err } = await daemon.deputy('provider', 'add', 'drafted', '--from-issuer', balanced)
    expect([code, err]).toEqual([0, ''])
    const scopes = ['ledger:read', 'ledger:write']
    await daemon.write({
      'client-secret': SECRET,
      'tenants/acme.yaml': tenant(),
      'servers/notes.yaml': {
        server: 'notes',
        resource: NOTES,
        tenants: ['acme'],
        owner: 'notes@acme.example',
        status: 'approved',
        attest: [{ unix: { uid: process.getuid!() } }],
        downstreams: Object.fromEntries(
          ['grant', 'generous', 'short', 'exchange', 'stranger', 'closed'].map((id) => [id, { scopes }]),
        ),
      },
      'providers/realm.yaml': {
        provider: 'realm',
        name: 'Company',
        issuer: realm.issuer,
        discovery: true,
        refresh: { narrows: true },
        answers: { scope_of: 'token' },
        revocation: 'rfc7009',
        revocation_ends: 'session',
      },
      ...downstream('grant', GRANT),
      ...downstream('generous', {
        ...GRANT,
        provider: 'drafted',
        client: { client_id: 'generous', client_secret: { file: 'client-secret' } },
      }),
      ...downstream('short', {
        ...GRANT,
        provider: 'drafted',
        client: { client_id: 'short', client_secret: { file: 'client-secret' } },
      }),
      ...downstream('exchange', { credential: 'token_exchange', audience: 'ledger' }),
      ...downstream('stranger', { credential: 'token_exchange', resource: 'https://ledger.example/other' }),
      'downstreams/closed.yaml': {
        downstream: 'closed',
        credential: 'minted',
        resource: 'https://closed.example',
        scopes: { 'ledger:read': 'Read', 'ledger:write': 'Write' },
      },
      'policies/access/all.cedar': [
        '@id("all") permit (principal, action, resource);',
        '@id("closed") forbid (principal, action, resource == Deputy::Downstream::"closed") unless {',
        '  principal in Deputy::Group::"acme/sales" && principal in Deputy::Group::"acme/sales/emea" &&',
        '  principal in Deputy::Group::"acme/accounting" && principal in Deputy::Group::"acme/ledger:reader"',
        '};',
      ].join('\n'),
    })
    await daemon.start()
  })
  afterAll(async () => {
    await daemon?.close()
    await balancer?.close()
    await realm?.remove()
    await keycloak?.close()
  })

  const tokenOf = async (
    client: string,
    scope = 'openid mcp',
    user = 'alice',
    issuer = realm.issuer,
  ): Promise<string> =>
    (
      await passwordToken({
        issuer,
        client,
        ...(client === 'mcp-client' ? {} : { secret: SECRET }),
        user,
        scope,
      })
    ).access_token
  const exchange = async (audience: string, more: Record<string, string> = {}): Promise<Answer> =>
    daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: more['subject_token'] ?? (await tokenOf('mcp-client')),
      subject_token_type: ACCESS_TOKEN,
      audience,
      ...more,
    })
  const reason = ({ status, body }: Answer): unknown => (status === 200 ? 'given' : body['reason'])

  /** Signs in at Keycloak where it asks, and allows where Deputy asks. */
  const connect = async (url: unknown, user = 'alice', browser: Browser = createBrowser()): Promise<Page> => {
    let page = await browser.open(String(url))
    for (let step = 0; step < 4 && page.body.includes('<form'); step += 1)
      page = page.body.includes('name="password"')
        ? await passSignIn(browser, page, user)
        : await browser.submit(page, { decision: 'allow' })
    return page
  }
  const userId = async (name: string): Promise<string> =>
    ((await realm.admin('GET', `/users?exact=true&username=${name}`)) as [{ id: string }])[0].id

  it('fault 63, promise 2: an ID token of a client that has the URI of the server as its name is refused', async () => {
    const { id_token: idToken, access_token: accessToken } = await passwordToken({
      issuer: realm.issuer,
      client: NOTES,
      secret: SECRET,
      user: 'alice',
      scope: 'openid',
    })
    expect(decodeJwt(idToken!)).toMatchObject({ aud: NOTES, typ: 'ID' })
    const answer = await exchange('exchange', { subject_token: idToken! })
    expect([reason(answer), answer.body['error_description']]).toEqual([
      'subject_token_invalid',
      expect.stringContaining('ID token') as string,
    ])
    // Its access tokens have no audience of the server, unless a mapper puts it in.
    expect(reason(await exchange('exchange', { subject_token: accessToken }))).toBe('subject_audience_mismatch')
  })

  it('fault 62: what an exchange brings is for the service that it was asked for, or it is refused', async () => {
    const given = await exchange('exchange', { scope: 'ledger:read' })
    expect(given.body).toMatchObject({ scope: 'ledger:read' })
    expect(decodeJwt(String(given.body['access_token']))).toMatchObject({ aud: 'ledger', azp: 'deputy' })
    // Keycloak takes no notice of `resource`.
    const other = await exchange('stranger', { scope: 'ledger:read' })
    expect([reason(other), other.body['error_description']]).toEqual([
      'provider_refused',
      expect.stringMatching(/aud ledger.*token_audiences/) as string,
    ])
  })

  it('fault 69: a user whose session has ended is asked to sign in', async () => {
    const token = await tokenOf('mcp-client', 'openid mcp', 'carol')
    expect(reason(await exchange('exchange', { subject_token: token, scope: 'ledger:read' }))).toBe('given')
    await realm.admin('POST', `/users/${await userId('carol')}/logout`)
    expect(reason(await exchange('exchange', { subject_token: token, scope: 'ledger:write' }))).toBe(
      'subject_token_refused',
    )
  })

  it('fault 71: groups, their parents and roles reach policy', async () => {
    expect(reason(await exchange('closed', { scope: 'ledger:read' }))).toBe('given')
    const bob = await tokenOf('mcp-client', 'openid mcp', 'bob')
    expect(reason(await exchange('closed', { subject_token: bob, scope: 'ledger:read' }))).toBe('policy_denied')
  })

  it('fault 61, fault 67, fault 70: a grant is connected with a pushed request, and its tokens are narrowed', async () => {
    const asked = await exchange('grant')
    expect(reason(asked)).toBe('interaction_required')
    const browser = createBrowser()
    const consent = await passSignIn(browser, await browser.open(String(asked.body['connect_url'])), 'alice')
    // Fault 72: a user is a UUID there, and the page says who that is.
    expect(consent.body).toContain(`alice, ${await userId('alice')} (acme)`)
    expect((await connect(asked.body['connect_url'])).body).toContain('Connected')
    expect((await exchange('grant')).body).toMatchObject({ scope: 'ledger:read ledger:write' })
    const { body } = await exchange('grant', { scope: 'ledger:read' })
    expect(body).toMatchObject({ scope: 'ledger:read' })
    const { scope } = decodeJwt(String(body['access_token']))
    expect(String(scope).split(' ')).toContain('ledger:read')
    expect(String(scope).split(' ')).not.toContain('ledger:write')
  })

  it('fault 61: a scope that comes unasked is judged when the user connects', async () => {
    const page = await connect((await exchange('generous')).body['connect_url'])
    expect([page.status, page.body]).toEqual([403, expect.stringContaining('granted company, which was not requested')])
    await daemon.write({
      'downstreams/generous.yaml': {
        ...downstream('generous', {
          ...GRANT,
          provider: 'drafted',
          over_scoped: 'mark',
          client: { client_id: 'generous', client_secret: { file: 'client-secret' } },
        })['downstreams/generous.yaml'],
      },
    })
    expect((await daemon.deputy('reload')).code).toBe(0)
    expect((await connect((await exchange('generous')).body['connect_url'])).body).toContain('Connected')
    expect((await exchange('generous')).body).toMatchObject({ scope: 'company ledger:read ledger:write' })
  })

  it('fault 73: a user with another session at Keycloak signs in anew', async () => {
    const bob = await tokenOf('mcp-client', 'openid mcp', 'bob')
    const { connect_url: url } = (await exchange('grant', { subject_token: bob })).body
    const browser = createBrowser()
    const wrong = await connect(url, 'alice', browser)
    expect(wrong.status).toBe(403)
    // Keycloak signs alice in again, unasked.
    expect((await browser.open(String(url))).status).toBe(403)
    const other = /<a href="([^"]+)">Use another account<\/a>/.exec(wrong.body)?.[1]
    const page = await browser.open(new URL(other!, String(url)).href)
    expect(page.body).toContain('name="password"')
    expect(page.url.startsWith(keycloak.url)).toBe(true)
  })

  it('fault 68, promise 4: a logout at Keycloak ends the tokens of that session here, and no grant', async () => {
    const browser = createBrowser({ stopAt: (url) => url.startsWith(CLIENT_REDIRECT) })
    const bob = await tokenOf('mcp-client', 'openid mcp', 'bob')
    const { connect_url: url } = (await exchange('grant', { subject_token: bob })).body
    expect((await connect(url, 'bob', browser)).body).toContain('Connected')
    const authorization = new URL(`${realm.issuer}/protocol/openid-connect/auth`)
    authorization.search = new URLSearchParams({
      client_id: 'mcp-client',
      redirect_uri: CLIENT_REDIRECT,
      response_type: 'code',
      scope: 'openid mcp',
    }).toString()
    const back = new URL((await browser.open(authorization.href)).url)
    const response = await fetch(`${realm.issuer}/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'authorization_code',
        client_id: 'mcp-client',
        redirect_uri: CLIENT_REDIRECT,
        code: back.searchParams.get('code')!,
      }),
    })
    const { access_token: ofSession } = (await response.json()) as { access_token: string }
    expect(reason(await exchange('grant', { subject_token: ofSession }))).toBe('given')
    const { sid } = decodeJwt(ofSession)
    await realm.admin('DELETE', `/sessions/${String(sid)}`)
    await expect.poll(async () => reason(await exchange('grant', { subject_token: ofSession }))).toBe('revoked')
    expect(reason(await exchange('grant', { subject_token: bob }))).toBe('given')
  })

  it('fault 68: a realm that is asked about every token confirms lightweight ones, and none of a session that has ended', async () => {
    await daemon.write({
      'tenants/acme.yaml': tenant({
        introspection: { for: 'all', client_id: 'deputy', client_secret: { file: 'client-secret' } },
      }),
    })
    expect((await daemon.deputy('reload')).code).toBe(0)
    const light = await tokenOf('light')
    expect(decodeJwt(light)).not.toHaveProperty('aud')
    expect(reason(await exchange('closed', { subject_token: light, scope: 'ledger:read' }))).toBe('given')
    const token = await tokenOf('mcp-client', 'openid mcp', 'carol')
    await realm.admin('POST', `/users/${await userId('carol')}/logout`)
    const ended = await exchange('exchange', { subject_token: token })
    expect([reason(ended), ended.body['error_description']]).toEqual([
      'subject_token_invalid',
      expect.stringContaining('no longer active') as string,
    ])
    await daemon.write({ 'tenants/acme.yaml': tenant() })
    expect((await daemon.deputy('reload')).code).toBe(0)
  })

  describe('under fifty users', () => {
    const subjects = new Map<string, string>()
    const ask = (user: string): Promise<Answer> => exchange('short', { subject_token: subjects.get(user)! })
    const states = async (): Promise<unknown[]> => {
      const grants = JSON.parse((await daemon.deputy('grant', 'list', '--json')).out) as {
        downstream: string
        status: string
      }[]
      return grants.filter((each) => each.downstream === 'short').map(({ status }) => status)
    }
    beforeAll(async () => {
      const queue = [...CROWD]
      const work = async (): Promise<void> => {
        for (let user = queue.pop(); user !== undefined; user = queue.pop()) {
          subjects.set(user, await tokenOf('mcp-client', 'openid mcp', user))
          const page = await connect((await ask(user)).body['connect_url'], user)
          if (!page.body.includes('Connected')) throw new Error(`${user}: ${page.status} ${page.url} ${page.body}`)
        }
      }
      await Promise.all(Array.from({ length: 8 }, work))
    })

    it('fault 16, fault 60: a wrong secret and a realm that is disabled end no grant', async () => {
      const ended = (answer: Answer): boolean => answer.body['error'] === 'interaction_required'
      const client = await realm.clientId('short')
      const set = (secret: string): Promise<unknown> => realm.admin('PUT', `/clients/${client}`, { secret })
      await sleep(5000)
      await set('another')
      const wrong = await Promise.all(CROWD.slice(0, 10).map(ask))
      expect(wrong.map(reason)).toEqual(wrong.map(() => 'provider_refused'))
      await set(SECRET)
      await realm.admin('PUT', '', { enabled: false })
      const disabled = await Promise.all(CROWD.slice(0, 10).map(ask))
      expect([disabled.filter(({ status }) => status === 200), disabled.filter(ended)]).toEqual([[], []])
      await realm.admin('PUT', '', { enabled: true })
      const again = await Promise.all(CROWD.map(ask))
      expect(again.map(reason)).toEqual(again.map(() => 'given'))
    })

    it.skipIf(process.env['DEPUTY_KEYCLOAK'] !== undefined)(
      'fault 60: a rolling restart behind a load balancer ends no grant',
      async () => {
        let over = false
        const seen = new Map<unknown, number>()
        const use = async (user: string): Promise<void> => {
          while (!over) {
            const answer = reason(await ask(user))
            seen.set(answer, (seen.get(answer) ?? 0) + 1)
            await sleep(300)
          }
        }
        const users = CROWD.map(use)
        await sleep(5000)
        await keycloak.restart()
        await sleep(5000)
        over = true
        await Promise.all(users)
        expect([...seen.keys()]).toContain('provider_unavailable')
        for (const ended of ['reconnect_required', 'interaction_required']) expect(seen.has(ended)).toBe(false)
        expect(new Set(await states())).not.toContain('reconnect_required')
        process.stderr.write(`a rolling restart under ${AT_ONCE} users: ${JSON.stringify(Object.fromEntries(seen))}\n`)
        // Doubts are tried after growing pauses.
        await expect
          .poll(async () => new Set((await Promise.all(CROWD.map(ask))).map(reason)), {
            timeout: 90_000,
            interval: 1000,
          })
          .toEqual(new Set(['given']))
        // A grant in doubt whose access token is still good is decided by its next refresh.
        for (const state of await states()) expect(['active', 'uncertain']).toContain(state)
      },
    )
  })
})
