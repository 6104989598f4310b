import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { RemoteRequest, RemoteResult } from '../../src/cli/remote/remote-request.ts'
import { addRemoteServer, idForServer } from '../../src/cli/remote/remote-server.ts'
import { settingsSchema } from '../../src/config/settings.ts'
import { isResourceOf } from '../../src/credentials/provider/remote/protected-resource.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'

type Json = Record<string, unknown>
type Answers = Record<string, Json | ((response: ServerResponse) => void)>

let server: Server
let origin: string
/** What the double answers, by path; everything else is 404. */
let answers: Answers
let asked: string[]
let bodies: Json[]
let written: number

const PRM = '/.well-known/oauth-protected-resource'
const AS = '/.well-known/oauth-authorization-server'
const OPENID = '/.well-known/openid-configuration'

const resource = (more: Json = {}): Json => ({
  resource: `${origin}/mcp`,
  authorization_servers: [origin],
  scopes_supported: ['read', 'offline_access', 'bad scope'],
  ...more,
})
const metadata = (more: Json = {}): Json => ({
  issuer: origin,
  authorization_endpoint: `${origin}/authorize`,
  token_endpoint: `${origin}/token`,
  registration_endpoint: `${origin}/register`,
  code_challenge_methods_supported: ['plain', 'S256'],
  token_endpoint_auth_methods_supported: ['none'],
  ...more,
})

beforeAll(async () => {
  server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      asked.push(`${request.method} ${request.url}`)
      const text = Buffer.concat(chunks).toString('utf8')
      if (request.url === '/register') bodies.push(JSON.parse(text) as Json)
      const answer = answers[request.url!]
      if (typeof answer === 'function') return answer(response)
      if (answer === undefined) return void response.writeHead(404).end('<html>no</html>')
      response
        .writeHead(request.url === '/register' ? 201 : 200, { 'content-type': 'application/json' })
        .end(JSON.stringify(answer))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => {
  server.closeAllConnections()
  server.close()
})
beforeEach(() => {
  asked = []
  bodies = []
  written = 0
  answers = {
    '/mcp': (response) => response.writeHead(401, { 'www-authenticate': 'Bearer' }).end(),
    [`${PRM}/mcp`]: resource(),
    [AS]: metadata(),
    '/register': { client_id: 'registered' },
  }
})

const add = async (
  wanted: Partial<RemoteRequest> = {},
  { allowLoopback = true, pages = 'http://127.0.0.1:1' }: { allowLoopback?: boolean; pages?: string } = {},
): Promise<RemoteResult> => {
  const egress = createEgress({ allowLoopback, allowPrivate: [], timeout: 1000 })
  try {
    return await addRemoteServer(
      {
        url: `${origin}/mcp`,
        id: 'remote',
        name: 'Remote',
        tenants: '*',
        tenantIds: ['acme'],
        known: undefined,
        issuer: undefined,
        client: undefined,
        ...wanted,
      },
      {
        home: '/nowhere',
        socket: '/nowhere/admin.sock',
        egress,
        settings: settingsSchema.parse({
          environment: 'test',
          issuer: 'https://deputy.example',
          connect_url: pages,
          network: { allow_loopback: allowLoopback },
        }),
      },
    )
  } finally {
    await egress.close()
  }
}
const refusal = async (...args: Parameters<typeof add>): Promise<string> => {
  try {
    await add(...args)
    return 'added'
  } catch (error) {
    return (error as Error).message
  }
}

describe('a remote MCP server is found', () => {
  it('at the address of its challenge, else below the well-known path, else at the root', async () => {
    const named = `${origin}/elsewhere`
    const challenge = `Bearer error="invalid_token", resource_metadata="${named}", scope="a b"`
    answers['/mcp'] = (response) => response.writeHead(401, { 'www-authenticate': challenge }).end()
    answers['/elsewhere'] = resource({ scopes_supported: undefined })
    const { facts } = await add()
    expect(facts.resource).toMatchObject({ resource: `${origin}/mcp`, scopes: ['a', 'b'], source: named })
    expect(asked).toEqual(['POST /mcp', 'GET /elsewhere', `GET ${AS}`, 'POST /register'])
    delete answers['/elsewhere']
    delete answers[`${PRM}/mcp`]
    answers[PRM] = resource({ resource: origin })
    asked = []
    expect((await add()).facts.resource.resource).toBe(origin)
    expect(asked.slice(0, 4)).toEqual(['POST /mcp', 'GET /elsewhere', `GET ${PRM}/mcp`, `GET ${PRM}`])
  })

  it('with an authorization server whose issuer has a path: RFC 8414 first, then both ways of OpenID discovery', async () => {
    const issuer = `${origin}/tenant`
    answers[`${PRM}/mcp`] = resource({ authorization_servers: [issuer] })
    answers[`/tenant${OPENID}`] = metadata({ issuer })
    expect((await add()).facts.server.issuer).toBe(issuer)
    expect(asked.slice(2, 5)).toEqual([`GET ${AS}/tenant`, `GET ${OPENID}/tenant`, `GET /tenant${OPENID}`])
  })

  it('takes scopes that a file can name, and registers only scopes that the authorization server lists', async () => {
    expect(Object.keys((await add()).facts.scopes)).toEqual(['read'])
    expect(bodies.at(-1)).toMatchObject({
      redirect_uris: ['http://127.0.0.1:1/connect/callback/remote'],
      application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'none',
      scope: 'read',
    })
    answers[AS] = metadata({ scopes_supported: ['read', 'offline_access'] })
    await add()
    expect(bodies.at(-1)!['scope']).toBe('read offline_access')
    answers[AS] = metadata({ scopes_supported: ['openid'] })
    await add()
    expect(bodies.at(-1)).not.toHaveProperty('scope')
  })

  it('the client is one by document where both sides can, else it registers, else a person does', async () => {
    const documents = { client_id_metadata_document_supported: true }
    const pages = 'https://deputy.company.example'
    answers[AS] = metadata({ ...documents, token_endpoint_auth_methods_supported: ['none', 'private_key_jwt'] })
    expect(await add({}, { pages })).toMatchObject({
      how: 'document',
      facts: { client: { clientId: `${pages}/clients/remote`, authentication: 'private_key_jwt' } },
    })
    // Deputy's address is no https.
    expect((await add()).how).toBe('dynamic')
    answers[AS] = metadata({ ...documents, token_endpoint_auth_methods_supported: ['client_secret_basic'] })
    expect(await refusal({}, { pages })).toMatch(/daemon is not running/)
    answers[AS] = metadata({ registration_endpoint: undefined })
    expect(await refusal()).toMatch(/takes neither/)
    expect(await add({ client: { clientId: 'by-hand', secret: undefined } })).toMatchObject({
      how: 'manual',
      facts: { client: { clientId: 'by-hand', authentication: 'none', secretName: undefined } },
    })
  })

  it('of a known server: only the documented authorization server, scopes and way of registration', async () => {
    const known = {
      known: 'remote',
      name: 'Remote',
      mcp: `${origin}/mcp`,
      authorization_server: origin,
      scopes: { read: 'Read all', other: 'Other' },
      notes: [],
      sources: {},
    }
    answers[`${PRM}/mcp`] = resource({
      authorization_servers: ['https://evil.example', origin],
      scopes_supported: ['read', 'sudo'],
    })
    expect((await add({ known })).facts).toMatchObject({ server: { issuer: origin }, scopes: { read: 'Read all' } })
    answers[`${PRM}/mcp`] = resource({ scopes_supported: undefined })
    expect((await add({ known })).facts.scopes).toEqual(known.scopes)
    expect(await refusal({ known: { ...known, registration: 'manual' } })).toMatch(/documented to take only clients/)
    answers[`${PRM}/mcp`] = resource({ authorization_servers: ['https://evil.example'] })
    expect(await refusal({ known })).toMatch(/names the authorization server https:\/\/evil.example, not/)
  })

  it('an id by its host, apart from the ids of providers', () => {
    const urls = ['https://mcp.linear.app/mcp', 'https://docs.mcp.cloudflare.com/mcp', 'https://127.0.0.1:8/', origin]
    expect(urls.map(idForServer)).toEqual(['linear-mcp', 'docs-cloudflare-mcp', 'remote-mcp', 'remote-mcp'])
  })
})

describe('a hostile remote MCP server', () => {
  const long = (response: ServerResponse): void => {
    response.writeHead(200, { 'content-type': 'application/json' })
    const more = (): void => {
      if (written > 50_000_000 || response.destroyed) return void response.end()
      written += 65_536
      response.write(Buffer.alloc(65_536, ' '), more)
    }
    more()
  }
  const redirect = (response: ServerResponse): void => {
    response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data/' }).end()
  }
  const cases: [threat: string, what: string, hostile: () => Answers, said: RegExp][] = [
    [
      'threat 6',
      'names metadata inside',
      () => ({
        '/mcp': (response) =>
          response.writeHead(401, { 'www-authenticate': 'Bearer resource_metadata="http://169.254.169.254/x"' }).end(),
      }),
      /metadata at another origin/,
    ],
    ...['https://169.254.169.254', 'https://10.0.0.8/as', 'https://[fd00::1]', 'https://[::ffff:10.0.0.1]'].map(
      (issuer): (typeof cases)[number] => [
        'threat 6',
        `names the authorization server ${issuer}`,
        () => ({ [`${PRM}/mcp`]: resource({ authorization_servers: [issuer] }) }),
        /does not connect to .*(metadata address|not public)/,
      ],
    ),
    [
      'threat 6',
      'names an authorization server over plain http',
      () => ({ [`${PRM}/mcp`]: resource({ authorization_servers: ['http://as.example'] }) }),
      /it is not https/,
    ],
    ...['authorization_endpoint', 'token_endpoint', 'registration_endpoint', 'revocation_endpoint'].flatMap((name) =>
      ['https://192.168.0.1/x', 'http://as.example/x'].map((url): (typeof cases)[number] => [
        'threat 6',
        `has the ${name} ${url}`,
        () => ({ [AS]: metadata({ [name]: url }) }),
        /does not connect to/,
      ]),
    ),
    [
      'threat 5',
      'has an authorization endpoint that is no URL of the web',
      () => ({ [AS]: metadata({ authorization_endpoint: 'javascript:alert(1)' }) }),
      /lacks a usable authorization_endpoint/,
    ],
    ['threat 6', 'redirects its metadata', () => ({ [`${PRM}/mcp`]: redirect }), /it redirects/],
    ['threat 6', 'redirects the metadata of its issuer', () => ({ [AS]: redirect }), /it redirects/],
    ['threat 6', 'redirects the registration', () => ({ '/register': redirect }), /it redirects/],
    ['threat 6', 'answers with 50 MB', () => ({ '/mcp': long }), /longer than/],
    ['threat 6', 'describes itself in 50 MB', () => ({ [`${PRM}/mcp`]: long }), /longer than/],
    ['threat 6', 'registers in 50 MB', () => ({ '/register': long }), /longer than/],
    ['threat 6', 'never answers', () => ({ [`${PRM}/mcp`]: () => undefined }), /did not answer in time/],
    [
      'threat 7',
      'has metadata of another issuer',
      () => ({ [AS]: metadata({ issuer: 'https://login.example' }) }),
      /of another issuer/,
    ],
    [
      'threat 7',
      'has an issuer that differs by a slash',
      () => ({ [AS]: metadata({ issuer: `${origin}/` }) }),
      /of another issuer/,
    ],
    [
      'threat 7',
      'claims the resource of another origin',
      () => ({ [`${PRM}/mcp`]: resource({ resource: 'https://mcp.linear.app/mcp' }) }),
      /about another resource/,
    ],
    [
      'threat 7',
      'claims a resource beside it',
      () => ({ [`${PRM}/mcp`]: resource({ resource: `${origin}/mcp-admin` }) }),
      /about another resource/,
    ],
    [
      'threat 7',
      'uses an authorization server that lists other resources',
      () => ({ [AS]: metadata({ protected_resources: ['https://other.example'] }) }),
      /does not list/,
    ],
    [
      'threat 9',
      'has an authorization server without S256',
      () => ({ [AS]: metadata({ code_challenge_methods_supported: ['plain'] }) }),
      /does not state PKCE/,
    ],
    [
      'threat 9',
      'has an authorization server without PKCE',
      () => ({ [AS]: metadata({ code_challenge_methods_supported: undefined }) }),
      /does not state PKCE/,
    ],
    [
      'threat 10',
      'names Deputy as its authorization server',
      () => ({ [`${PRM}/mcp`]: resource({ authorization_servers: ['https://deputy.example'] }) }),
      /is this Deputy/,
    ],
    [
      'threat 10',
      'has the token endpoint of Deputy',
      () => ({ [AS]: metadata({ token_endpoint: 'https://deputy.example/oauth2/token' }) }),
      /is this Deputy/,
    ],
    [
      'threat 8',
      'registers another redirect URI',
      () => ({ '/register': { client_id: 'x', redirect_uris: ['https://evil.example/'] } }),
      /another redirect URI/,
    ],
    [
      'threat 22',
      'registers a client that authenticates in a way that was not asked for',
      () => ({ '/register': { client_id: 'x', token_endpoint_auth_method: 'tls_client_auth' } }),
      /authenticate by tls_client_auth/,
    ],
    [
      'threat 22',
      'registers a client with a secret that it does not state',
      () => ({ '/register': { client_id: 'x', token_endpoint_auth_method: 'client_secret_basic' } }),
      /did not state it/,
    ],
    [
      'threat 4',
      'answers a registration with words of its own',
      () => ({
        '/register': (response) => response.writeHead(400).end('{"error":"x\\u001b[2J tok_0123456789abcdef0123"}'),
      }),
      /\(400: it does not say why\)/,
    ],
    ['promise 9', 'is none', () => ({ [`${PRM}/mcp`]: (response) => response.writeHead(404).end() }), /publishes no/],
    ['promise 9', 'describes itself as HTML', () => ({ [`${PRM}/mcp`]: (r) => r.end('<html>') }), /lacks a usable/],
    ['promise 9', 'is broken', () => ({ [AS]: (response) => response.writeHead(500).end() }), /answers 500/],
  ]
  it.each(cases)('%s: that %s is refused', async (_threat, _what, hostile, said) => {
    Object.assign(answers, hostile())
    expect(await refusal()).toMatch(said)
    expect(written).toBeLessThan(5_000_000)
  })

  it('threat 7: that names the authorization server of another host is refused, unless a person names it as well', async () => {
    const issuer = origin.replace('127.0.0.1', 'localhost')
    answers[`${PRM}/mcp`] = resource({ authorization_servers: [issuer] })
    answers[AS] = metadata({ issuer })
    expect(await refusal()).toMatch(/at another host/)
    expect(bodies).toEqual([])
    expect(await refusal({ issuer: origin })).toMatch(/names the authorization server http:\/\/localhost/)
    expect((await add({ issuer })).facts.server.issuer).toBe(issuer)
  })

  it('threat 6: is asked nothing at an address inside', async () => {
    expect(await refusal({}, { allowLoopback: false })).toMatch(/does not connect to/)
    expect(asked).toEqual([])
  })

  it('threat 7: a resource stands for a URL below it, of the same origin alone', () => {
    const url = 'https://mcp.example/v1/mcp'
    const good = [url, `${url}/`, 'https://mcp.example', 'https://mcp.example/', 'https://mcp.example/v1']
    const bad = [
      'https://mcp.example/v1/mcp/x',
      'https://mcp.example/v',
      'https://mcp.example/v1/mc',
      'http://mcp.example/v1/mcp',
      'https://mcp.example:8443/v1/mcp',
      'https://mcp.example.evil.example/v1/mcp',
      `${url}?x`,
    ]
    expect(good.map((each) => isResourceOf(each, url))).toEqual(good.map(() => true))
    expect(bad.map((each) => isResourceOf(each, url))).toEqual(bad.map(() => false))
  })
})
