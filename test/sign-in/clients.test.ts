import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeJwt, SignJWT } from 'jose'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { createSystemRandom } from '../../src/clock.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { hashClientSecret } from '../../src/identity/workload/client-secret.ts'
import { type ClientDocuments, startClientDocuments } from '../support/client-documents.ts'
import { PASSWORD } from '../peers/openid-server.ts'
import { createBrowser } from '../peers/walk.ts'
import { ACCESS_TOKEN, aKeyPair, TOKEN_EXCHANGE } from '../support/daemon.ts'
import {
  authorizationUrl,
  authorize,
  redeemCode,
  refreshTokens,
  REDIRECT_URI,
  registerClient,
  signInAtClient,
  startSignInWorld,
  type SignInWorld,
} from '../support/sign-in.ts'

/** An address of a client that runs on a web server of its own. */
const WEB_REDIRECT = 'https://client.example/callback'
/** Clients at which no user has signed in, at most. */
const LIMIT = 12
const ADMITTED = 60

let world: SignInWorld
let documents: ClientDocuments
const keys = aKeyPair()

const fileOf = (client: string, more: object = {}): object => ({
  client,
  name: 'Desk',
  owner: 'desk@company.example',
  redirect_uris: [WEB_REDIRECT],
  ...more,
})

beforeAll(async () => {
  documents = await startClientDocuments()
  // Cheap, for a test: what it costs is in the hash.
  const scrypt = await hashClientSecret(new Secret('desk secret'), createSystemRandom(), { N: 1024, r: 8, p: 1 })
  const files = {
    'documents.pem': documents.ca,
    'clients/desk.yaml': fileOf('desk', { authentication: { client_secret: { scrypt } }, servers: ['notes'] }),
    'clients/keyed.yaml': fileOf('keyed', { authentication: { private_key_jwt: { jwks: { keys: [keys.jwk] } } } }),
    'clients/off.yaml': fileOf('off', { enabled: false }),
    'clients/plain.yaml': fileOf('plain'),
    'policies/access/clients.cedar': `
      forbid (principal == Deputy::User::"acme/bob", action == Deputy::Action::"sign_in", resource == Deputy::Workload::"notes")
      unless { context has client && context.client.known == "file" };
      forbid (principal == Deputy::User::"acme/bob", action == Deputy::Action::"minted", resource)
      when { context has client.id && context.client.id == "plain" };`,
  }
  world = await startSignInWorld(() => files, {
    network: { allow_loopback: true, hosts: [{ host: documents.host, ca: 'documents.pem' }] },
    clients: {
      metadata_documents: { hosts: [documents.host, '10.0.0.1', '*.inside.example'], recheck: '100ms' },
      registration: { limit: LIMIT },
    },
    rates: { new_clients_by_address: { requests: ADMITTED, per: '1h' } },
  })
})
afterAll(async () => {
  await world?.close()
  await documents?.close()
})

interface Registered {
  readonly status: number
  readonly body: Record<string, unknown>
  readonly headers: Headers
}

const register = async (metadata: unknown, headers: Record<string, string> = {}): Promise<Registered> => {
  const response = await fetch(`${world.url}/oauth2/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof metadata === 'string' ? metadata : JSON.stringify(metadata),
  })
  return {
    status: response.status,
    body: (await response.json()) as Record<string, unknown>,
    headers: response.headers,
  }
}

/** What an authorization request is answered with, before anything else happens. */
const ask = async (client: string, parameters: Record<string, string> = {}) => {
  const response = await fetch(authorizationUrl(world, client, parameters).url, { redirect: 'manual' })
  return { status: response.status, location: response.headers.get('location'), text: await response.text() }
}

const records = async (event: string): Promise<{ record: { detail: Record<string, unknown> } }[]> =>
  JSON.parse((await world.daemon.deputy('audit', 'query', '--event', event, '--json')).out) as []

const consentsOf = async (client: string): Promise<number> =>
  (await records('client.consent')).filter(({ record }) => record.detail['client'] === client).length

/** What a client with a key sends with a code. */
const proofOf = async (client: string): Promise<Record<string, string>> => ({
  redirect_uri: WEB_REDIRECT,
  client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
  client_assertion: await new SignJWT({ jti: randomUUID() })
    .setProtectedHeader({ alg: 'ES256', kid: 'key' })
    .setIssuer(client)
    .setSubject(client)
    .setAudience(world.url)
    .setIssuedAt()
    .setExpirationTime('1m')
    .sign(keys.privateKey),
})

const withRedirect = { parameters: { redirect_uri: WEB_REDIRECT } }

describe('registration', () => {
  test('takes what clients send, keeps what counts, and leaves the port of loopback addresses free', async () => {
    const { status, body } = await register({
      client_name: 'Editor',
      redirect_uris: ['http://127.0.0.1:3333/callback', 'com.example.editor:/back', 'cursor://editor/callback'],
      grant_types: ['authorization_code', 'refresh_token', 'implicit', 'password'],
      response_types: ['code', 'id_token'],
      scope: 'notes:read unheard-of',
      client_uri: null,
      software_statement: 'ignored',
      id_token_signed_response_alg: 'RS256',
      jwks_uri: 'http://10.0.0.1/keys',
    })
    expect(status).toBe(201)
    expect(body).toMatchObject({
      client_name: 'Editor',
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    })
    expect(Object.keys(body)).not.toEqual(expect.arrayContaining(['scope']))
    expect(body).not.toHaveProperty('jwks_uri')
    expect(body).not.toHaveProperty('client_secret')
    const parameters = { redirect_uri: 'http://127.0.0.1:4444/callback', scope: 'notes:write' }
    const client = String(body['client_id'])
    const authorization = await authorize(world, client, { parameters })
    const tokens = await redeemCode(world, authorization, { redirect_uri: parameters.redirect_uri })
    expect(tokens).toMatchObject({ status: 200, scope: 'notes:write' })
  })

  test('a client with a secret needs it', async () => {
    const { body } = await register({
      redirect_uris: [REDIRECT_URI],
      token_endpoint_auth_method: 'client_secret_post',
    })
    const client = String(body['client_id'])
    expect(body).toMatchObject({ client_secret_expires_at: 0 })
    const wrong = await redeemCode(world, await authorize(world, client), { client_secret: 'guess' })
    expect(wrong).toMatchObject({ status: 401, error: 'invalid_client' })
    const none = await redeemCode(world, await authorize(world, client))
    expect(none).toMatchObject({ status: 401, error: 'invalid_client' })
    const secret = { client_secret: String(body['client_secret']) }
    expect(await redeemCode(world, await authorize(world, client), secret)).toMatchObject({ status: 200 })
  })

  test.each([
    ['a fragment', 'https://client.example/#x', 'invalid_redirect_uri'],
    ['a user name', 'https://client.example@evil.example/', 'invalid_redirect_uri'],
    ['an empty user name', 'https://@evil.example/', 'invalid_redirect_uri'],
    ['plain http', 'http://client.example/', 'invalid_redirect_uri'],
    ['a host that only looks like loopback', 'http://127.0.0.1.evil.example/', 'invalid_redirect_uri'],
    ['https at loopback', 'https://localhost/', 'invalid_redirect_uri'],
    ['a scheme that the browser runs', 'JavaScript:alert(1)//.', 'invalid_redirect_uri'],
    ['data', 'data:text/html,x', 'invalid_redirect_uri'],
    ['a scheme without a period', 'editor://back', 'invalid_redirect_uri'],
    ['a wildcard', 'https://*.example/', 'invalid_redirect_uri'],
    ['a backslash', 'https://client.example\\@evil.example/', 'invalid_redirect_uri'],
    ['no address', 'callback', 'invalid_redirect_uri'],
  ])('threat 8: refuses a redirect URI with %s', async (_what, uri, error) => {
    const { status, body } = await register({ redirect_uris: [WEB_REDIRECT, uri] })
    expect([status, body['error']]).toEqual([400, error])
  })

  test.each([
    ['no redirect URI', {}, 'invalid_client_metadata'],
    ['an unknown authentication', { token_endpoint_auth_method: 'tls_client_auth' }, 'invalid_client_metadata'],
    ['a list', [], 'invalid_client_metadata'],
    ['no JSON', '{', 'invalid_client_metadata'],
    ['too much', { client_name: 'x'.repeat(9000) }, 'invalid_request'],
  ])('refuses a registration with %s', async (_what, given, error) => {
    const metadata = typeof given === 'object' && !Array.isArray(given) ? { ...given } : given
    const { status, body } = await register(metadata)
    expect([status >= 400 && status < 500, body['error']]).toEqual([true, error])
  })
})

describe('threat 8: a wrong address is never redirected to', () => {
  let client: string
  beforeAll(async () => {
    const { body } = await register({ redirect_uris: [WEB_REDIRECT, 'http://127.0.0.1:1/callback'] })
    client = String(body['client_id'])
  })
  test.each([
    ['another path below it', `${WEB_REDIRECT}/more`],
    ['a prefix of it', 'https://client.example/call'],
    ['a query', `${WEB_REDIRECT}?next=https://evil.example`],
    ['a user name', 'https://client.example@evil.example/callback'],
    ['its host as user name', 'https://client.example%2Fcallback@evil.example/'],
    ['another port of its own', 'https://client.example:444/callback'],
    ['a user name at loopback', 'http://evil@127.0.0.1:1/callback'],
    ['another loopback path', 'http://127.0.0.1:9/other'],
    ['another loopback name', 'http://localhost:1/callback'],
    ['path traversal', 'https://client.example/x/../callback'],
    ['upper case', 'https://CLIENT.example/callback'],
  ])('%s', async (_what, redirectUri) => {
    const answer = await ask(client, { redirect_uri: redirectUri })
    expect([answer.status, answer.location]).toEqual([400, null])
    expect(answer.text).toContain('invalid_redirect_uri')
  })
  test('an error before a person has seen a client that anyone can register stays on a page', async () => {
    const wrong = [
      { prompt: 'none' },
      { response_type: 'token' },
      { code_challenge_method: 'plain' },
      { response_mode: 'form_post', prompt: 'none' },
      { resource: 'https://other.example/' },
      { request: 'x' },
    ]
    for (const parameters of wrong) {
      const self = await ask(client, { redirect_uri: WEB_REDIRECT, ...parameters })
      expect([self.status, self.location, self.text.includes(WEB_REDIRECT)]).toEqual([400, null, false])
      expect(self.text).toContain('Correlation id')
      // An address on the user's machine leads to no attacker, and a client of a file is the administrator's.
      for (const [id, redirect_uri] of [
        [client, REDIRECT_URI],
        ['plain', WEB_REDIRECT],
      ] as const) {
        const vouched = await ask(id, { redirect_uri, ...parameters })
        expect(`${vouched.location} ${vouched.text}`).toContain(redirect_uri)
      }
    }
  })
  test('an unknown client', async () => {
    for (const unknown of ['dcr_unknown', 'unknown', 'http://client.example/c', '']) {
      const answer = await ask(unknown, { redirect_uri: WEB_REDIRECT })
      expect([answer.status, answer.location]).toEqual([400, null])
    }
    const forgotten = await ask('dcr_unknown', { redirect_uri: WEB_REDIRECT })
    expect(forgotten.text).toMatch(/The client&#39;s id is dcr_unknown\.[\s\S]*add it again[\s\S]*Correlation id/)
    expect((await ask('dcr_<b>\u202e', { redirect_uri: WEB_REDIRECT })).text).toContain('dcr_&lt;b&gt;?')
  })
})

describe('documents', () => {
  const metadata = { client_name: 'Web client', redirect_uris: [WEB_REDIRECT, REDIRECT_URI] }

  test('a client is known by its document; a change asks users again, and is recorded', async () => {
    const client = documents.serve('/client.json', metadata)
    const first = await redeemCode(world, await authorize(world, client, withRedirect), { redirect_uri: WEB_REDIRECT })
    expect(first).toMatchObject({ status: 200 })
    expect(decodeJwt(first.access_token!)).toMatchObject({ client_id: client })
    await authorize(world, client, withRedirect)
    expect(await consentsOf(client)).toBe(1)

    documents.serve('/client.json', { ...metadata, redirect_uris: [WEB_REDIRECT, 'https://evil.example/'] })
    await sleep(1200)
    // The party that the address is of now may be another: what users have given it before is over.
    expect(await refreshTokens(world, client, first.refresh_token!)).toMatchObject({ error: 'invalid_grant' })
    await authorize(world, client, withRedirect)
    expect(await consentsOf(client)).toBe(2)
    const changes = (await records('client.change')).map(({ record }) => record.detail)
    expect(changes).toMatchObject([
      { client, is: { redirect_uris: [WEB_REDIRECT, 'https://evil.example/'] }, approval_ended: false },
    ])

    // Users who have signed in go on while the host is away; a document that is gone ends that.
    documents.answer('/client.json', { status: 503 })
    await sleep(1200)
    await authorize(world, client, withRedirect)
    documents.answer('/client.json', { status: 404 })
  })

  test.each(['jwks', 'jwks_uri'])('a client with a key in its document (%s) proves itself by it', async (member) => {
    const jwks = { keys: [keys.jwk] }
    const client = documents.serve(`/keyed-${member}.json`, {
      ...metadata,
      token_endpoint_auth_method: 'private_key_jwt',
      [member]: member === 'jwks' ? jwks : documents.answer('/keys.json', { body: jwks }),
    })
    const bare = await redeemCode(world, await authorize(world, client, withRedirect), { redirect_uri: WEB_REDIRECT })
    expect(bare).toMatchObject({ status: 401, error: 'invalid_client' })
    const proved = await redeemCode(world, await authorize(world, client, withRedirect), await proofOf(client))
    expect([proved.status, proved.error_description]).toEqual([200, undefined])
  })

  test('a document that changes while the user looks at the page gets nothing', async () => {
    const client = documents.serve('/turning.json', metadata)
    const browser = createBrowser({ stopAt: (url) => url.startsWith(`${WEB_REDIRECT}?`) })
    let page = await browser.open(authorizationUrl(world, client, withRedirect.parameters).url)
    page = await browser.submit(page, { login: 'alice', password: PASSWORD })
    while (!page.body.includes('Let Web client use')) page = await browser.submit(page, { decision: 'allow' })
    documents.serve('/turning.json', { ...metadata, client_name: 'Claude' })
    await sleep(1200)
    await ask(client, withRedirect.parameters)
    const answer = await browser.submit(page, { decision: 'allow' })
    expect([answer.status, answer.body]).toEqual([400, expect.stringContaining('has changed since')])
    expect(await consentsOf(client)).toBe(0)
  })

  test('threat 10: the consent for one client is none for another', async () => {
    const [one, another] = ['/one.json', '/another.json'].map((path) => documents.serve(path, metadata)) as [
      string,
      string,
    ]
    await authorize(world, one, withRedirect)
    await authorize(world, another, withRedirect)
    expect([await consentsOf(one), await consentsOf(another)]).toEqual([1, 1])
  })

  test('a client that lies about its name is shown with its host, on one line', async () => {
    const client = documents.serve('/liar.json', { ...metadata, client_name: 'Claude\u202e\n<b>by Anthropic</b>' })
    await authorize(world, client, withRedirect)
    const { out } = await world.daemon.deputy('client', 'show', client, '--json')
    expect(JSON.parse(out)).toMatchObject({ name: 'Claude <b>by Anthropic</b>', known: 'document' })
  })

  test.each([
    ['has another client_id', { body: { ...metadata, client_id: 'https://client.example/' } }],
    ['is too large', { body: { ...metadata, padding: 'x'.repeat(9000) } }],
    ['leads elsewhere', { status: 302, headers: { location: 'https://client.example/' } }],
    ['is no JSON', { body: '<html>' }],
  ])('threat 6: a document that %s is refused', async (what, document) => {
    const client = documents.answer(`/${what.replaceAll(' ', '-')}.json`, document)
    const answer = await ask(client, { redirect_uri: WEB_REDIRECT })
    expect([answer.status, answer.location]).toEqual([400, null])
    expect(answer.text).toContain('invalid_client')
  })

  test.each([
    ['secret', { client_secret: 'x' }],
    ['secret authentication', { token_endpoint_auth_method: 'client_secret_post' }],
    ['plain redirect', { redirect_uris: ['http://client.example/'] }],
    ['private key', { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [{ kty: 'oct', k: 'x' }] } }],
  ])('a document with a %s is refused', async (what, more) => {
    const client = documents.serve(`/with-${what.replaceAll(' ', '-')}.json`, { ...metadata, ...more })
    const answer = await ask(client, { redirect_uri: WEB_REDIRECT })
    expect([answer.status, answer.location]).toEqual([400, null])
  })

  test('threat 6: an address inside, an untrusted host and Deputy itself are not asked, a broken one not twice', async () => {
    for (const id of [
      'https://10.0.0.1/client.json',
      'https://169.254.169.254.inside.example/latest',
      'https://untrusted.example/client.json',
      `https://${new URL(world.url).host}/clients/notes`,
      `https://${documents.host}/`,
      `https://${documents.host}/a/../client.json`,
      `https://user@${documents.host}/client.json`,
    ]) {
      const answer = await ask(id, { redirect_uri: WEB_REDIRECT })
      expect([id, answer.status, answer.location]).toEqual([id, 400, null])
    }
    const broken = documents.answer('/broken.json', { status: 500 })
    for (let asked = 0; asked < 3; asked += 1) expect((await ask(broken)).status).toBe(400)
    expect(documents.asked.get('/broken.json')).toBe(1)
    expect(documents.asked.has('/clients/notes')).toBe(false)
  })
})

describe('clients of files', () => {
  const exchange = (token: string) =>
    world.daemon.token({
      grant_type: TOKEN_EXCHANGE,
      client_id: 'notes',
      subject_token: token,
      subject_token_type: ACCESS_TOKEN,
      audience: 'api',
    })

  test('one that is disabled in its file is unknown', async () => {
    expect(await ask('off', { redirect_uri: WEB_REDIRECT })).toMatchObject({ status: 400, location: null })
  })

  test('one with a key proves itself by it', async () => {
    const proof = await proofOf('keyed')
    expect(await redeemCode(world, await authorize(world, 'keyed', withRedirect), proof)).toMatchObject({ status: 200 })
    expect(await redeemCode(world, await authorize(world, 'keyed', withRedirect), proof)).toMatchObject({ status: 401 })
  })

  test('threat 15: one with a secret needs it, and ends at once when its file says so', async () => {
    const secret = { client_secret: 'desk secret', redirect_uri: WEB_REDIRECT }
    const wrong = { ...secret, client_secret: 'another' }
    expect(await redeemCode(world, await authorize(world, 'desk', withRedirect), wrong)).toMatchObject({ status: 401 })
    const tokens = await redeemCode(world, await authorize(world, 'desk', withRedirect), secret)
    expect(tokens).toMatchObject({ status: 200 })
    expect((await exchange(tokens.access_token!)).status).toBe(200)
    const file = parse(await readFile(join(world.daemon.home, 'clients/desk.yaml'), 'utf8')) as object
    await world.daemon.write({ 'clients/desk.yaml': { ...file, enabled: false } })
    expect((await world.daemon.deputy('reload')).code).toBe(0)
    expect((await exchange(tokens.access_token!)).body).toMatchObject({ reason: 'subject_client_disabled' })
    expect(await refreshTokens(world, 'desk', tokens.refresh_token!, secret)).toMatchObject({ status: 401 })
  })
})

test('policy names clients: at the sign-in, and in the exchange', async () => {
  const exchange = (token: string | undefined) =>
    world.daemon.token({
      grant_type: TOKEN_EXCHANGE,
      client_id: 'notes',
      subject_token: token ?? '',
      subject_token_type: ACCESS_TOKEN,
      audience: 'api',
    })
  const registered = await registerClient(world)
  await expect(signInAtClient(world, registered, { user: 'bob' })).rejects.toThrow(/Policy does not let the client/)
  const refused = (await records('client.consent')).map(({ record }) => record.detail)
  expect(refused).toContainEqual(
    expect.objectContaining({
      client: registered,
      error: expect.objectContaining({ code: 'client_denied' }) as unknown,
    }),
  )
  const plain = { user: 'bob', ...withRedirect }
  const tokens = await redeemCode(world, await authorize(world, 'plain', plain), { redirect_uri: WEB_REDIRECT })
  expect(tokens).toMatchObject({ status: 200 })
  expect((await exchange(tokens.access_token)).body).toMatchObject({ reason: 'policy_denied' })
  const alice = await redeemCode(world, await authorize(world, 'plain', withRedirect), { redirect_uri: WEB_REDIRECT })
  expect((await exchange(alice.access_token)).status).toBe(200)
  const question = ['--server', 'notes', '--tenant', 'acme', '--user', 'bob', '--downstream', 'api']
  expect((await world.daemon.deputy('policy', 'explain', ...question, '--client', 'plain')).out).toContain('denied')
  expect((await world.daemon.deputy('policy', 'explain', ...question, '--client', registered)).code).toBe(0)
  const signIn = (...more: string[]) =>
    world.daemon.deputy('policy', 'explain', '--sign-in', '--server', 'notes', '--tenant', 'acme', ...more)
  const denied = await signIn('--user', 'bob', '--client', registered)
  expect([denied.code, denied.out]).toEqual([
    1,
    expect.stringMatching(/denied: sign_in[\s\S]*decided by policies\/access\/clients/),
  ])
  const allowed = await signIn('--user', 'bob', '--client', 'plain')
  expect([allowed.code, allowed.out]).toEqual([
    0,
    expect.stringMatching(/allowed: sign_in with notes:read \(registered: notes:read notes:write\)/),
  ])
  expect((await signIn('--user', 'bob', '--client', 'off')).out).toContain('do not let users of acme sign in at off')
  expect((await signIn('--user', 'bob')).err).toContain('names user and client')
  expect((await signIn('--user', 'bob', '--client', 'plain', '--downstream', 'api')).err).toContain('either about')

  // A policy that comes later ends what was signed in before with the next token.
  await world.daemon.write({
    'policies/access/later.cedar':
      'forbid (principal, action == Deputy::Action::"sign_in", resource) when { context has client && context.client.id == "plain" };',
  })
  expect((await world.daemon.deputy('reload')).code).toBe(0)
  const again = await refreshTokens(world, 'plain', tokens.refresh_token!, {})
  expect([again.status, again.error, again.access_token]).toEqual([403, 'access_denied', undefined])
})

describe('deputy client', () => {
  test('shows what users have allowed a client, and ends it with its registration', async () => {
    const client = await registerClient(world)
    const tokens = await signInAtClient(world, client)
    const listed = JSON.parse((await world.daemon.deputy('client', 'list', '--json')).out) as { client: string }[]
    expect(listed).toContainEqual(expect.objectContaining({ client: 'keyed', known: 'file', name: 'Desk' }))
    expect(listed.find((each) => each.client === client)).toMatchObject({
      known: 'registered',
      redirect_hosts: ['http://127.0.0.1:1'],
      sessions: 1,
    })
    const shown = (await world.daemon.deputy('client', 'show', client)).out
    expect(shown).toContain('known by: its own registration, which proves nothing')
    expect(shown).toMatch(/acme +alice +notes/)
    const revoked = await world.daemon.deputy('client', 'revoke', client)
    expect([revoked.code, revoked.out]).toEqual([0, expect.stringContaining('a new one gets another id')])
    expect(await refreshTokens(world, client, tokens.refresh_token!)).toMatchObject({ status: 401 })
    expect(await ask(client)).toMatchObject({ status: 400, location: null })
    expect((await world.daemon.deputy('client', 'show', 'keyedd')).err).toContain('keyed')
  })

  test('an unknown client waits for its approval where the settings want that', async () => {
    const settings = parse(await readFile(join(world.daemon.home, 'deputy.yaml'), 'utf8')) as { clients: object }
    const reload = async (clients: object): Promise<void> => {
      await world.daemon.write({ 'deputy.yaml': { ...settings, clients: { ...settings.clients, ...clients } } })
      expect((await world.daemon.deputy('reload')).code).toBe(0)
    }
    const client = await registerClient(world)
    await reload({ approval: 'unknown' })
    await expect(signInAtClient(world, client)).rejects.toThrow(client)
    // What the settings allow inside is for hosts alone that they name.
    await reload({ approval: 'unknown', metadata_documents: { hosts: '*', recheck: '100ms' } })
    const inside = documents.serve('/inside.json', { redirect_uris: [WEB_REDIRECT] })
    expect(await ask(inside, { redirect_uri: WEB_REDIRECT })).toMatchObject({ status: 400, location: null })
    expect(documents.asked.has('/inside.json')).toBe(false)
    await reload({ approval: 'unknown' })
    expect(await signInAtClient(world, 'keyed', withRedirect)).toMatchObject({ status: 401 })
    expect((await world.daemon.deputy('client', 'list')).out).toMatch(new RegExp(`${client} +registered .* no `))
    expect((await world.daemon.deputy('client', 'approve', client)).out).toContain('is approved')
    expect(await signInAtClient(world, client)).toMatchObject({ status: 200 })
    expect((await records('client.approve')).map(({ record }) => record.detail)).toMatchObject([{ client }])
    await reload({})
  })
})

test('a flood of registrations is bounded, and leaves those alone that users have signed in at', async () => {
  const used = await registerClient(world)
  await signInAtClient(world, used)
  const answers: Registered[] = []
  for (let sent = 0; sent < ADMITTED; sent += 1) answers.push(await register({ redirect_uris: [REDIRECT_URI] }))
  const refused = answers.filter(({ status }) => status === 429)
  expect(answers.filter(({ status }) => status === 201).length).toBeLessThan(LIMIT)
  expect(refused[0]!.body['error_description']).toContain('clients with which no user has signed in')
  expect(refused.at(-1)!.body['error_description']).toContain('from 127.0.0.1')
  expect(refused.at(-1)!.headers.get('retry-after')).not.toBeNull()
  const elsewhere = await register({ redirect_uris: [REDIRECT_URI] }, { 'x-forwarded-for': '192.0.2.1, 198.51.100.7' })
  expect(elsewhere.body['error_description']).toContain('clients with which no user has signed in')
  expect(await signInAtClient(world, used)).toMatchObject({ status: 200 })
})
