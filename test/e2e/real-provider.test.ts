import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { createProofKey } from '../../src/foundation/crypto/proof-key.ts'
import { createProofs } from '../../src/foundation/outbound/proofs.ts'
import { startBoundApi, type BoundApi } from '../peers/bound-api.ts'
import { SIGN_IN_CLIENT, signIn, startCompanyIdp, type CompanyIdp } from '../peers/company-idp.ts'
import { startModernService, type ModernService } from '../peers/modern-service.ts'
import { PASSWORD } from '../peers/openid-server.ts'
import { createBrowser, type Browser, type Page } from '../peers/walk.ts'
import { aCertificateAuthority } from '../support/certificates.ts'
import {
  ACCESS_TOKEN,
  aKeyPair,
  ask,
  prepareDaemon,
  TOKEN_EXCHANGE,
  type Answer,
  type Daemon,
} from '../support/daemon.ts'
import { freePort } from '../support/process.ts'
import { startTlsFront } from '../support/tls-front.ts'

const NOTES = 'https://notes.example/mcp'
const SCOPES = { 'notes:read': 'Read your notes', 'notes:write': 'Change your notes' }

const OF_USERS = ['bound', 'later', 'public', 'document', 'public-document'] as const
const OWN = ['robot', 'by-certificate', 'own-document'] as const
const IDS = [...OF_USERS, ...OWN] as const

let base: string
let idp: CompanyIdp
let service: ModernService
/** The services behind the downstreams, by their ids. */
const apis = {} as Record<(typeof IDS)[number], BoundApi>
/** Added by its URL alone. */
let remote: BoundApi
let daemon: Daemon
const closers: (() => Promise<unknown>)[] = []

/** The file of the service, which is the same but for how Deputy is known there and what is bound. */
const provider = (id: string, more: object): Record<string, object> => ({
  [`providers/${id}.yaml`]: {
    provider: id,
    name: 'Notes',
    issuer: service.issuer,
    discovery: true,
    refresh: { rotates: true, narrows: true },
    revocation: 'rfc7009',
    ...more,
  },
})
const downstream = (id: keyof typeof apis, more: object): Record<string, object> => ({
  [`downstreams/${id}.yaml`]: {
    downstream: id,
    provider: id,
    resource: apis[id].url,
    scopes: SCOPES,
    inject: { hosts: [apis[id].url], as: { header: 'Authorization', value: 'DPoP {credential}' } },
    ...more,
  },
})
const server = (ofUsers: readonly string[]): object => ({
  server: 'notes',
  resource: NOTES,
  tenants: ['acme'],
  owner: 'notes@acme.example',
  status: 'approved',
  attest: [{ unix: { uid: process.getuid!() } }],
  downstreams: Object.fromEntries(ofUsers.map((id) => [id, { scopes: ['notes:read', 'notes:write'] }])),
  own: Object.fromEntries(OWN.map((id) => [id, { scopes: ['notes:read'] }])),
})
const KEY = { private_key: { file: 'client-key' } }

beforeAll(async () => {
  const authority = await aCertificateAuthority()
  const trusted = getCACertificates('default')
  setDefaultCACertificates([...trusted, authority.certificate])
  closers.push(() => {
    setDefaultCACertificates(trusted)
    return Promise.resolve()
  })
  const certificate = await authority.issue('services', { host: '127.0.0.1' })
  const own = await authority.issue('deputy', { client: true })
  const pair = aKeyPair()
  const frontPort = await freePort()
  base = `https://127.0.0.1:${frontPort}`
  const environment: NodeJS.ProcessEnv = {}
  daemon = await prepareDaemon({ 'ca.pem': authority.certificate }, { connect_url: base }, environment)
  closers.push(() => daemon.close())
  environment['NODE_EXTRA_CA_CERTS'] = join(daemon.home, 'ca.pem')
  const front = await startTlsFront({ certificate, port: frontPort, to: () => daemon.port })
  idp = await startCompanyIdp({ resources: [NOTES], redirectUris: [`${base}/connect/signed-in`] })
  for (const id of IDS) apis[id] = await startBoundApi()
  remote = await startBoundApi()
  const byKey = {
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [{ ...pair.jwk, kty: 'EC' }] },
  } as const
  const ofUsers = {
    redirect_uris: [`${base}/connect/callback`],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code' as const],
  }
  const ofItself = { redirect_uris: [], grant_types: ['client_credentials'], response_types: [], scope: 'notes:read' }
  service = await startModernService({
    authority,
    certificate,
    resources: [...Object.values(apis), remote].map(({ url }) => url),
    clients: [
      { ...byKey, ...ofUsers, client_id: 'deputy', dpop_bound_access_tokens: true },
      { ...byKey, ...ofUsers, client_id: 'later' },
      { ...ofUsers, client_id: 'public', token_endpoint_auth_method: 'none' },
      { ...byKey, ...ofItself, client_id: 'robot', dpop_bound_access_tokens: true },
      {
        ...ofItself,
        client_id: 'by-certificate',
        token_endpoint_auth_method: 'tls_client_auth',
        tls_client_auth_subject_dn: 'CN=deputy',
      },
    ],
  })
  closers.push(front.close, idp.close, service.close, remote.close, ...Object.values(apis).map(({ close }) => close))
  for (const api of [...Object.values(apis), remote]) api.issuer = service.issuer
  await daemon.write({
    'sign-in': SIGN_IN_CLIENT.client_secret,
    'client-key': JSON.stringify({ ...pair.privateKey.export({ format: 'jwk' }), kid: 'key', alg: 'ES256' }),
    'certificate.pem': own.certificate,
    'certificate-key.pem': own.key,
    'tenants/acme.yaml': {
      tenant: 'acme',
      issuers: [{ issuer: idp.issuer }],
      sign_in: { issuer: idp.issuer, client_id: SIGN_IN_CLIENT.client_id, client_secret: { file: 'sign-in' } },
    },
    'servers/notes.yaml': server(OF_USERS),
    ...provider('bound', {
      client_authentication: 'private_key_jwt',
      dpop: 'required',
      offline_scope: 'offline_access',
      authorization_parameters: { prompt: 'consent' },
    }),
    ...downstream('bound', { credential: 'oauth_grant', client: { client_id: 'deputy', ...KEY } }),
    ...provider('later', {
      client_authentication: 'private_key_jwt',
      offline_scope: 'offline_access',
      authorization_parameters: { prompt: 'consent' },
    }),
    ...downstream('later', { credential: 'oauth_grant', client: { client_id: 'later', ...KEY } }),
    ...provider('public', {
      client_authentication: 'none',
      dpop: 'required',
      offline_scope: 'offline_access',
      authorization_parameters: { prompt: 'consent' },
    }),
    ...downstream('public', { credential: 'oauth_grant', client: { client_id: 'public' } }),
    ...provider('robot', { client_authentication: 'private_key_jwt', dpop: 'required' }),
    ...downstream('robot', { credential: 'client_credentials', client: { client_id: 'robot', ...KEY } }),
    ...provider('by-certificate', { client_authentication: 'tls_client_auth' }),
    ...downstream('by-certificate', {
      credential: 'client_credentials',
      client: {
        client_id: 'by-certificate',
        certificate: { file: 'certificate.pem' },
        private_key: { file: 'certificate-key.pem' },
      },
    }),
    ...provider('document', {
      client_authentication: 'private_key_jwt',
      dpop: 'required',
      offline_scope: 'offline_access',
      authorization_parameters: { prompt: 'consent' },
    }),
    ...downstream('document', { credential: 'oauth_grant', client: { client_id: `${base}/clients/notes` } }),
    ...provider('public-document', {
      client_authentication: 'none',
      dpop: 'required',
      offline_scope: 'offline_access',
      authorization_parameters: { prompt: 'consent' },
    }),
    ...downstream('public-document', {
      credential: 'oauth_grant',
      client: { client_id: `${base}/clients/notes-public` },
    }),
    ...provider('own-document', { client_authentication: 'private_key_jwt', dpop: 'required' }),
    ...downstream('own-document', { credential: 'client_credentials', client: { client_id: `${base}/clients/robot` } }),
    'policies/access/all.cedar': '@id("all") permit (principal, action, resource);',
  })
  await daemon.start()
})
afterAll(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

const subjectToken = async (user = 'alice'): Promise<string> =>
  (await signIn({ idp, user, resource: NOTES })).accessToken
const through = async (
  id: string,
  more: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<Answer> =>
  ask(
    { socketPath: join(daemon.home, 'run/proxy.sock') },
    {
      path: `/d/${id}/notes`,
      ...more,
      headers: {
        ...(more.headers?.['deputy-on-behalf-of'] === undefined
          ? { 'deputy-subject-token': await subjectToken() }
          : {}),
        ...more.headers,
      },
    },
  )
const token = async (audience: string, headers: Record<string, string> = {}): Promise<Answer> =>
  daemon.token(
    {
      grant_type: TOKEN_EXCHANGE,
      subject_token: await subjectToken(),
      subject_token_type: ACCESS_TOKEN,
      audience,
      scope: 'notes:read notes:write',
    },
    headers,
  )

/** The user's way from the link to the page at its end, or to an address that the browser stops at. */
const walk = async (browser: Browser, url: unknown, user = 'alice'): Promise<Page> => {
  let page = await browser.open(String(url))
  for (let step = 0; step < 8 && page.body.includes('<form'); step += 1) {
    const login = page.url.startsWith(idp.url) ? user : `${user}-notes`
    page = await browser.submit(
      page,
      page.body.includes('name="login"') ? { login, password: PASSWORD } : { decision: 'allow' },
    )
  }
  return page
}
const connect = async (url: unknown): Promise<void> => {
  expect((await walk(createBrowser(), url)).body).toContain('Connected')
}
/** What the service was asked and answered since then. */
const since = (count: number): string[] => service.requests.slice(count).map(({ path, status }) => `${path} ${status}`)

describe('a service that binds its tokens to keys', () => {
  it('requirement 23: takes a pushed request alone, wants its nonce in the proof, and issues a token that is bound and for the resource; the proxy uses it', async () => {
    const unknown = await through('bound')
    expect([unknown.status, unknown.body['reason']]).toEqual([400, 'interaction_required'])
    const before = service.requests.length
    await connect(unknown.body['connect_url'])
    expect(since(before)).toEqual(expect.arrayContaining(['/request 400', '/request 201', '/token 200']))
    // The nonce that came with the first refusal is good for what follows.
    expect(since(before)).not.toContain('/token 400')
    expect(await through('bound')).toMatchObject({
      status: 200,
      body: { user: 'alice-notes', scope: 'notes:read notes:write' },
    })
    expect(apis.bound.accepted.at(-1)).toMatchObject({
      iss: service.issuer,
      aud: apis.bound.url,
      client_id: 'deputy',
      cnf: { jkt: expect.any(String) as string },
    })
    // Once without a nonce, and once more with the service's.
    expect(apis.bound.statuses).toEqual([401, 200])
  })

  it('requirement 23: has its tokens refreshed with the same key after a restart, and each proof is used once', async () => {
    const [{ cnf: first }] = apis.bound.accepted as [{ cnf?: unknown }]
    await daemon.stop()
    await daemon.start()
    const before = service.requests.length
    // A narrowed token is always fetched anew.
    expect(await through('bound', { headers: { 'deputy-scope': 'notes:read' } })).toMatchObject({
      status: 200,
      body: { user: 'alice-notes', scope: 'notes:read' },
    })
    expect(since(before).filter((each) => each.startsWith('/token'))).toEqual(['/token 400', '/token 200'])
    expect(apis.bound.accepted.at(-1)!['cnf']).toEqual(first)
    // A second one: the refresh token has rotated, and the nonce is known.
    const second = service.requests.length
    await daemon.deputy('reload')
    expect((await through('bound', { headers: { 'deputy-scope': 'notes:write' } })).body).toMatchObject({
      scope: 'notes:write',
    })
    expect(since(second).filter((each) => each.startsWith('/token'))).toEqual(['/token 200'])
  })

  it('threat 18: a bound token is not handed out, whoever proves a key of his own', async () => {
    const refused = {
      status: 403,
      body: { reason: 'token_bound', error: 'access_denied', next: expect.stringContaining('proxy') as string },
    }
    expect(await token('bound')).toMatchObject(refused)
    const proof = createProofs({ clock: systemClock, random: createSystemRandom() }).prove(await createProofKey(), {
      method: 'POST',
      url: 'http://localhost/oauth2/token',
    })
    expect(await token('bound', { dpop: proof })).toMatchObject(refused)
  })

  it('promise 5: the key is nowhere in clear, and the record names it by its thumbprint', async () => {
    const { jkt } = apis.bound.accepted[0]!['cnf'] as { jkt: string }
    const { out } = await daemon.deputy('audit', 'query', '--json')
    expect(out).toContain(`"bound": "${jkt}"`)
    const files = (await readdir(join(daemon.home, 'state'), { recursive: true, withFileTypes: true })).filter((each) =>
      each.isFile(),
    )
    const kept = (await Promise.all(files.map((each) => readFile(join(each.parentPath, each.name), 'latin1')))).join('')
    for (const text of [out, daemon.output(), kept]) expect(text).not.toMatch(/PRIVATE KEY/)
  })

  it('requirement 23: a new nonce of the service is used at once; a short body is sent again with it, a long one is not', async () => {
    const { statuses, bodies } = apis.bound
    apis.bound.changeNonce()
    const from = statuses.length
    expect((await through('bound', { method: 'POST', body: 'a note' })).status).toBe(200)
    expect([statuses.slice(from), bodies.at(-1)]).toEqual([[401, 200], 'a note'])
    apis.bound.changeNonce()
    const long = 'x'.repeat(100_000)
    expect((await through('bound', { method: 'POST', body: long })).status).toBe(401)
    expect((await through('bound', { method: 'POST', body: long })).status).toBe(200)
    expect([statuses.slice(from + 2), bodies.at(-1)!.length]).toEqual([[401, 200], 100_000])
  })

  it("requirement 23: nothing of the caller's passes for a proof or a token", async () => {
    const from = apis.bound.statuses.length
    expect(
      (await through('bound', { headers: { dpop: 'eyJhbGciOiJub25lIn0.e30.', authorization: 'DPoP stolen' } })).status,
    ).toBe(200)
    expect(apis.bound.statuses.slice(from)).toEqual([200])
  })

  it("requirement 23: a public client's refresh token is bound as well, and goes on with its key", async () => {
    await connect((await through('public')).body['connect_url'])
    expect((await through('public')).status).toBe(200)
    expect((await through('public', { headers: { 'deputy-scope': 'notes:read' } })).body).toMatchObject({
      scope: 'notes:read',
    })
    const thumbprints = apis.public.accepted.map(({ cnf }) => (cnf as { jkt: string }).jkt)
    expect(new Set(thumbprints).size).toBe(1)
    expect(thumbprints[0]).not.toBe((apis.bound.accepted[0]!['cnf'] as { jkt: string }).jkt)
  })

  it('requirement 24: the answer of the service is good once, and for the browser that began alone: its code is sent no second time', async () => {
    const link = async (): Promise<unknown> =>
      (await through('bound', { headers: { 'deputy-subject-token': await subjectToken('bob') } })).body['connect_url']
    const codes = (from: number): number => since(from).filter((each) => each.startsWith('/token')).length
    const stopAt = (url: string): boolean => url.startsWith(`${base}/connect/callback`)
    const stolen = await walk(createBrowser({ stopAt }), await link(), 'bob')
    expect(new URL(stolen.url).searchParams.has('code')).toBe(true)
    const before = service.requests.length
    expect((await createBrowser().open(stolen.url)).status).toBe(400)
    expect(codes(before)).toBe(0)
    const browser = createBrowser()
    const seen: string[] = []
    const watching = createBrowser({
      stopAt: (url) => {
        if (stopAt(url)) seen.push(url)
        return false
      },
    })
    expect((await walk(watching, await link(), 'bob')).body).toContain('Connected')
    expect(codes(before)).toBe(1)
    for (const each of [watching, browser]) expect((await each.open(seen[0]!)).status).toBe(400)
    expect(codes(before)).toBe(1)
  })

  it('a grant of before binding was wanted gets a bound token at its next use, and no bearer token is used on', async () => {
    await connect((await through('later')).body['connect_url'])
    expect(await token('later')).toMatchObject({ status: 200, body: { token_type: 'Bearer' } })
    await daemon.write(
      provider('later', {
        client_authentication: 'private_key_jwt',
        offline_scope: 'offline_access',
        dpop: 'required',
      }),
    )
    expect((await daemon.deputy('reload')).code).toBe(0)
    expect((await token('later')).body['reason']).toBe('token_bound')
    expect((await through('later')).status).toBe(200)
    expect(apis.later.accepted).toMatchObject([{ client_id: 'later', cnf: { jkt: expect.any(String) as string } }])
  })

  it("requirement 23: a server's own token (client_credentials) is bound to a key that was made for it", async () => {
    const ofServer = { headers: { 'deputy-on-behalf-of': 'server' } }
    expect(await through('robot', ofServer)).toMatchObject({
      status: 200,
      body: { user: 'robot', scope: 'notes:read' },
    })
    expect((await through('robot', ofServer)).status).toBe(200)
    expect(apis.robot.statuses).toEqual([401, 200, 200])
    expect((await daemon.token({ grant_type: 'client_credentials', audience: 'robot' })).body['reason']).toBe(
      'token_bound',
    )
  })

  it('requirement 23: a client that proves itself by a certificate (RFC 8705) gets a token for the resource that it names (RFC 8707)', async () => {
    const { status, body } = await daemon.token({
      grant_type: 'client_credentials',
      audience: 'by-certificate',
      scope: 'notes:read',
    })
    expect([status, body['token_type']]).toEqual([200, 'Bearer'])
    expect(decodeJwt(String(body['access_token']))).toMatchObject({
      iss: service.issuer,
      aud: apis['by-certificate'].url,
      client_id: 'by-certificate',
      scope: 'notes:read',
    })
  })

  it('requirement 1: a client that nobody has registered is known by the document at its id, and signs with keys that rotate', async () => {
    const document = await fetch(`${base}/clients/notes`)
    expect([document.status, document.headers.get('content-type'), document.headers.get('cache-control')]).toEqual([
      200,
      'application/json; charset=utf-8',
      'public, max-age=300',
    ])
    expect(await document.json()).toEqual({
      client_id: `${base}/clients/notes`,
      client_name: 'Deputy',
      redirect_uris: [`${base}/connect/callback`],
      response_types: ['code'],
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: 'ES256',
      jwks_uri: `${base}/clients/notes/jwks.json`,
      dpop_bound_access_tokens: true,
    })
    await connect((await through('document')).body['connect_url'])
    expect((await through('document')).status).toBe(200)
    expect(apis.document.accepted.at(-1)).toMatchObject({
      client_id: `${base}/clients/notes`,
      sub: 'alice-notes',
      cnf: { jkt: expect.any(String) as string },
    })
    expect((await daemon.deputy('key', 'rotate', '--signing')).code).toBe(0)
    expect((await through('document', { headers: { 'deputy-scope': 'notes:read' } })).body).toMatchObject({
      scope: 'notes:read',
    })
  })

  it("requirement 1: so is a public one, and one of the server's own; the keys sign for clients and for nothing else", async () => {
    await connect((await through('public-document')).body['connect_url'])
    expect((await through('public-document')).status).toBe(200)
    expect((await through('own-document', { headers: { 'deputy-on-behalf-of': 'server' } })).body).toMatchObject({
      user: `${base}/clients/robot`,
    })
    const kids = async (path: string): Promise<string[]> =>
      ((await (await fetch(`${base}${path}`)).json()) as { keys: { kid: string; d?: string }[] }).keys.flatMap(
        ({ kid, d }) => (d === undefined ? [kid] : ['private']),
      )
    const ofClients = await kids('/clients/robot/jwks.json')
    expect(ofClients.length).toBeGreaterThan(0)
    expect(await kids('/.well-known/jwks.json')).not.toEqual(expect.arrayContaining(ofClients))
    for (const name of [
      '',
      'nobody',
      'nobody/jwks.json',
      '..%2fnotes',
      '%zz',
      'NOTES',
      'notes/',
      'notes/jwks.json/x',
    ]) {
      const answer = await fetch(`${base}/clients/${name}`)
      expect([name, answer.status, await answer.text()]).toEqual([name, 404, '{"error":"not_found"}'])
    }
    expect((await fetch(`${base}/clients/notes`, { method: 'POST' })).status).toBe(404)
  })

  it('a server that is added by its URL alone has its files, by a document, with pushed requests and bound tokens', async () => {
    const added = await daemon.deputy('downstream', 'add', '--mcp', `${remote.url}/notes`, '--id', 'remote')
    expect([added.code, added.err]).toEqual([0, ''])
    expect(added.out).toContain(`${base}/clients/remote (private_key_jwt)`)
    const file = await readFile(join(daemon.home, 'providers/remote.yaml'), 'utf8')
    for (const fact of ['dpop: required', 'par: required', 'offline_scope: offline_access'])
      expect(file).toContain(fact)
    await daemon.write({ 'servers/notes.yaml': server([...OF_USERS, 'remote']) })
    expect(await daemon.deputy('reload')).toMatchObject({ code: 0, err: '' })
    await connect((await through('remote')).body['connect_url'])
    expect(await through('remote')).toMatchObject({ status: 200, body: { user: 'alice-notes' } })
    expect(remote.accepted.at(-1)).toMatchObject({
      aud: remote.url,
      client_id: `${base}/clients/remote`,
      cnf: { jkt: expect.any(String) as string },
    })
  })

  it('ends a grant at the service: the bound refresh token is of no use any more', async () => {
    const before = service.requests.length
    expect((await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice', '--json')).code).toBe(0)
    await expect
      .poll(() => since(before).filter((each) => each === '/token/revocation 200').length)
      .toBeGreaterThanOrEqual(5)
  })
})
