import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { Agent, fetch as undiciFetch } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { SIGN_IN_CLIENT, signIn, startCompanyIdp, type CompanyIdp } from '../peers/company-idp.ts'
import { PASSWORD } from '../peers/openid-server.ts'
import {
  type RegisteringService,
  type RemoteMcpServer,
  startRegisteringService,
  startRemoteMcpServer,
} from '../peers/remote-mcp-server.ts'
import { createBrowser, type Page } from '../peers/walk.ts'
import { ask, prepareDaemonHere, type Answer, type RunningDaemon } from '../support/daemon.ts'

const NOTES = 'https://notes.example/mcp'
/** Of a client that was registered by hand. */
const SECRET = 'a-secret-of-the-client-by-hand'

let idp: CompanyIdp
let remote: RemoteMcpServer
let service: RegisteringService
let daemon: RunningDaemon
const closers: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  daemon = await prepareDaemonHere({})
  closers.push(() => daemon.close())
  idp = await startCompanyIdp({
    resources: [NOTES],
    redirectUris: [`http://127.0.0.1:${daemon.port}/connect/signed-in`],
  })
  remote = await startRemoteMcpServer()
  service = await startRegisteringService({ resource: remote.url, accessTokenTtl: 300 })
  remote.issuer = service.issuer
  closers.push(idp.close, remote.close, service.close)
  await daemon.write({
    'sign-in': SIGN_IN_CLIENT.client_secret,
    'tenants/acme.yaml': {
      tenant: 'acme',
      issuers: [{ issuer: idp.issuer }],
      sign_in: { issuer: idp.issuer, client_id: SIGN_IN_CLIENT.client_id, client_secret: { file: 'sign-in' } },
    },
    'tenants/globex.yaml': { tenant: 'globex', issuers: [{ issuer: 'https://login.globex.example' }] },
    'by-hand': `${SECRET}\n`,
    'policies/access/all.cedar': '@id("all") permit (principal, action, resource);',
  })
  await daemon.start()
})
afterAll(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

const subjectToken = async (user: string): Promise<string> => (await signIn({ idp, user, resource: NOTES })).accessToken
const proxySocket = (): string => join(daemon.home, 'run/proxy.sock')
const path = '/d/remote/v1/mcp'

/** A plain request for the user, for the answer of the proxy itself. */
const through = async (user: string): Promise<Answer> =>
  ask(
    { socketPath: proxySocket() },
    {
      path,
      headers: { 'deputy-subject-token': await subjectToken(user), 'content-type': 'application/json' },
      body: '{}',
    },
  )

/** The user's way from the link to the page at its end. */
const walk = async (url: unknown, user: string): Promise<Page> => {
  const browser = createBrowser()
  let page = await browser.open(String(url))
  for (let step = 0; step < 8 && page.body.includes('<form'); step += 1)
    page = await browser.submit(
      page,
      page.body.includes('name="login"')
        ? { login: page.url.startsWith(idp.url) ? user : `${user}-remote`, password: PASSWORD }
        : { decision: 'allow' },
    )
  return page
}

/** The official client, whose requests go through the injecting proxy; it has no token of the remote server. */
const withClient = async <T>(user: string, work: (client: Client) => Promise<T>): Promise<T> => {
  const dispatcher = new Agent({ connect: { socketPath: proxySocket() } })
  const client = new Client({ name: 'notes', version: '1.0.0' })
  const transport = new StreamableHTTPClientTransport(new URL(`http://localhost${path}`), {
    requestInit: { headers: { 'deputy-subject-token': await subjectToken(user) } },
    fetch: ((input: string, init: object) => undiciFetch(input, { ...init, dispatcher })) as unknown as typeof fetch,
  })
  try {
    await client.connect(transport as Transport)
    return await work(client)
  } finally {
    await client.close()
    await dispatcher.close()
  }
}
const call = (user: string, name: string): Promise<string> =>
  withClient(user, async (client) => {
    const { content } = await client.callTool({ name, arguments: {} })
    return (content as { text: string }[])[0]!.text
  })

const add = (...more: string[]): ReturnType<RunningDaemon['deputy']> =>
  daemon.deputy('downstream', 'add', '--mcp', remote.url, '--id', 'remote', ...more)

const yaml = async (file: string): Promise<Record<string, unknown>> =>
  parse(await readFile(join(daemon.home, file), 'utf8')) as Record<string, unknown>

/** Everything in the home, for what must not be in it. */
const everything = async (): Promise<string> => {
  const files = (await readdir(daemon.home, { recursive: true, withFileTypes: true })).filter((each) => each.isFile())
  return (await Promise.all(files.map((each) => readFile(join(each.parentPath, each.name), 'latin1')))).join('\n')
}

describe('a remote MCP server as a downstream', () => {
  it('promise 5: is added by its URL: Deputy registers itself, and the secret is sealed and in no file', async () => {
    const { code, out, err } = await add('--tenants', 'acme')
    expect([code, err]).toEqual([0, ''])
    const { client, ...downstream } = await yaml('downstreams/remote.yaml')
    const { client_id: clientId } = client as { client_id: string }
    expect(client).toEqual({ client_id: clientId, client_secret: { secret: 'remote-client' } })
    expect(downstream).toEqual({
      downstream: 'remote',
      name: new URL(remote.url).host,
      credential: 'oauth_grant',
      provider: 'remote',
      tenants: ['acme'],
      resource: remote.url,
      scopes: { 'remote:read': 'remote:read', 'remote:write': 'remote:write' },
      inject: {
        hosts: [new URL(remote.url).origin],
        paths: ['/v1/mcp'],
        as: { header: 'Authorization', value: 'Bearer {credential}' },
        only: true,
      },
    })
    expect(await yaml('providers/remote.yaml')).toMatchObject({
      provider: 'remote',
      issuer: service.issuer,
      token_endpoint: `${service.issuer}/token`,
      client_authentication: 'client_secret_basic',
      authorization_response_iss_parameter_supported: true,
      pkce: 'S256',
      dpop: 'never',
      offline_scope: 'offline_access',
      refresh: { rotates: true },
      revocation: 'rfc7009',
    })
    const registered = await service.provider.Client.find(clientId)
    expect(registered?.redirectUris).toEqual([`http://127.0.0.1:${daemon.port}/connect/callback/remote`])
    expect(registered?.clientSecret?.length).toBeGreaterThan(20)
    for (const text of [await everything(), out, daemon.output()]) expect(text).not.toContain(registered!.clientSecret!)
    const { host } = new URL(service.issuer)
    expect(out).toContain(`Users give consent at ${host}; codes and tokens are exchanged at ${host}.\n`)
    expect(out).toContain('remote: { scopes: ["remote:read", "remote:write"] }')
  })

  it('is added no second time, and registers no second client for nothing', async () => {
    const before = await readFile(join(daemon.home, 'downstreams/remote.yaml'), 'utf8')
    const again = await add()
    expect([again.code, again.err]).toEqual([1, expect.stringContaining('exists already')])
    expect(await readFile(join(daemon.home, 'downstreams/remote.yaml'), 'utf8')).toBe(before)
    expect(service.registrations()).toBe(1)
  })

  it('promise 8: takes a client that was registered by hand, and seals its secret for each tenant', async () => {
    const by = ['--id', 'by-hand', '--client-id', 'deputy', '--client-secret-file', join(daemon.home, 'by-hand')]
    const added = await daemon.deputy('downstream', 'add', '--mcp', remote.url, ...by)
    expect([added.code, added.err]).toEqual([0, ''])
    expect(await yaml('downstreams/by-hand.yaml')).toMatchObject({
      tenants: '*',
      client: { client_id: 'deputy', client_secret: { secret: 'by-hand-client' } },
    })
    expect(service.registrations()).toBe(1)
    await rm(join(daemon.home, 'by-hand'))
    expect(await everything()).not.toContain(SECRET)
    const { out } = await daemon.deputy('secret', 'list', '--json')
    const kept = (JSON.parse(out) as { tenant: string; name: string }[]).filter(({ name }) => name === 'by-hand-client')
    expect(kept.map(({ tenant }) => tenant).toSorted()).toEqual(['acme', 'globex'])
    // Neither the files nor the secret of before are touched.
    await rm(join(daemon.home, 'downstreams/by-hand.yaml'))
    await rm(join(daemon.home, 'providers/by-hand.yaml'))
    await daemon.write({ 'by-hand': 'another-secret' })
    const again = await daemon.deputy('downstream', 'add', '--mcp', remote.url, ...by)
    expect([again.code, again.err]).toEqual([1, expect.stringContaining('has a secret by-hand-client already')])
  })

  it('promise 9: says what is wrong with the command before anything is called', async () => {
    const cases: [args: string[], said: RegExp][] = [
      [[], /either --mcp URL or --known NAME/],
      [['--mcp', remote.url, '--known', 'linear'], /either --mcp URL or --known NAME/],
      [['--known', 'linaer'], /no MCP server linaer\. Did you mean.*linear/i],
      [['--mcp', 'ftp://x'], /cannot be the URL of an MCP server/],
      [['--mcp', remote.url, '--id', '../x'], /cannot be the id/],
      [['--mcp', remote.url, '--id', 'github'], /provider github already/],
      [['--mcp', remote.url, '--tenants', 'acme,globx'], /no tenant 'globx'.*globex/],
      [['--mcp', remote.url, '--client-secret-file', 'x'], /needs its --client-id/],
      [['--mcp', remote.url, '--id', 'new', '--client-id', 'x', '--client-secret-file', '/nowhere'], /nowhere/],
    ]
    for (const [args, said] of cases) {
      const { code, err } = await daemon.deputy('downstream', 'add', ...args)
      expect([args, code === 0, err]).toEqual([args, false, expect.stringMatching(said)])
      expect(err).not.toContain('    at ')
    }
    const known = JSON.parse((await daemon.deputy('downstream', 'known', '--json')).out) as { known: string }[]
    expect(known.length).toBeGreaterThanOrEqual(20)
  })

  it("promise 2: a user connects in the browser, and the proxy calls the server with the user's own token for it", async () => {
    await daemon.write({
      'servers/notes.yaml': {
        server: 'notes',
        resource: NOTES,
        tenants: ['acme'],
        owner: 'notes@acme.example',
        status: 'approved',
        attest: [{ unix: { uid: process.getuid!() } }],
        downstreams: { remote: { scopes: ['remote:read', 'remote:write'] } },
      },
    })
    expect(await daemon.deputy('reload')).toMatchObject({ code: 0, err: '' })
    const refused = await through('alice')
    expect([refused.status, refused.body['error']]).toEqual([400, 'interaction_required'])
    const page = await walk(refused.body['connect_url'], 'alice')
    expect(page.body).toContain('Connected')
    expect(await call('alice', 'whoami')).toBe('alice-remote remote:read remote:write')
    expect(remote.accepted.at(-1)).toMatchObject({ iss: service.issuer, aud: remote.url, sub: 'alice-remote' })
    expect(service.grants).toEqual([{ type: 'authorization_code', resource: remote.url }])
    // Another user has not connected.
    expect((await through('bob')).body['error']).toBe('interaction_required')
  })

  it('threat 27: a server that repeats the token does not tell it to the caller', async () => {
    const text = await call('alice', 'repeat')
    expect(text).toContain('your token is')
    expect(text).not.toContain(remote.lastToken())
  })

  it('promise 6: a refresh names the resource (RFC 8707) and rotates', async () => {
    // The server refuses the token, so that Deputy refreshes it.
    const { issuer } = remote
    remote.issuer = 'http://127.0.0.1:9'
    await through('alice')
    remote.issuer = issuer
    expect(await call('alice', 'whoami')).toBe('alice-remote remote:read remote:write')
    expect(service.grants.slice(1)).toEqual([{ type: 'refresh_token', resource: remote.url }])
  })
})
