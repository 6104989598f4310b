/**
 * MCP clients that are not ours sign their user in from nothing: each knows the server's URL alone. It gets a 401, reads
 * the metadata (RFC 9728), registers or has a client that an admin made, authorizes with PKCE, calls tools, and asks for more
 * scopes when a tool requires them. Every client meets the middleware of both SDKs, an oidc-provider and a Keycloak; and Deputy as the
 * authorization server in front of both, which sees what Entra sees: no foreign `resource` and no client but Deputy's own. There the users
 * sign in through a real browser, where the machine has one.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SIGN_IN_CLIENT, startCompanyIdp } from '../peers/company-idp.ts'
import { aKeycloakUser, findKeycloak, startKeycloak } from '../peers/keycloak.ts'
import { needPeer } from '../peers/programs.ts'
import { aCompany } from '../support/configuration.ts'
import { findChromium } from '../support/chromium.ts'
import { type Daemon, type Files, prepareDaemon } from '../support/daemon.ts'
import { startMcpServer, type RunningMcpServer, type Sdk, type Tools } from '../support/mcp.ts'
import { freePort } from '../support/process.ts'

const PEERS = join(import.meta.dirname, '../peers')
const CLIENTS = join(PEERS, 'mcp-clients')
const GO_SOURCE = join(CLIENTS, 'go')
const BROWSER = `${process.execPath} ${join(PEERS, 'browser.ts')} %s &`

const TOOLS = {
  read_ledger: { downstream: 'ledger', scopes: ['ledger:read'] },
  write_ledger: { downstream: 'ledger', scopes: ['ledger:write'], requires: ['books'] },
  ask_agent: { downstream: 'agent', scopes: ['chat'] },
}

/** A client that waits for what does not come is ended, and what it wrote is shown (ms); the first build in Go takes a minute. */
const PROGRAM_LIMIT_MS = 120_000

/** What a client is started with, without the server's URL and the tools to call. */
type Program = readonly [string, ...string[]]
const programs = new Map<string, Program>()
const home = await mkdtemp(join(tmpdir(), 'deputy-clients-'))
const visits = join(home, 'visits')

const ofPython = async (name: string, bin: Promise<string | undefined>, script: string): Promise<void> => {
  const folder = await bin
  if (folder !== undefined) programs.set(name, [join(folder, 'python'), join(CLIENTS, script)])
}
await ofPython('mcp', needPeer('mcp'), 'with_mcp.py')
await ofPython('mcp1', needPeer('mcp1'), 'with_mcp.py')
await ofPython('fastmcp', needPeer('fastmcp'), 'with_fastmcp.py')
for (const version of ['v1', 'v2'])
  programs.set(`typescript ${version}`, [process.execPath, join(CLIENTS, 'with-typescript.ts'), version])
if ((await needPeer('gosdk')) !== undefined) programs.set('gosdk', [join(home, 'client')])
const keycloakProgram = findKeycloak()
const chromium = findChromium()
const CLIENT_NAMES = ['typescript v1', 'typescript v2', 'mcp', 'mcp1', 'fastmcp', 'gosdk']

const runProgram = async (
  [program, ...args]: Program,
  options: { cwd?: string; environment?: NodeJS.ProcessEnv } = {},
): Promise<{ code: number; out: string; err: string }> => {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: options.cwd,
    env: { ...process.env, ...options.environment },
    timeout: PROGRAM_LIMIT_MS,
    killSignal: 'SIGKILL',
  })
  const written = { out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (written.out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (written.err += text))
  const [code] = (await once(child, 'exit')) as [number]
  return { code, ...written }
}

interface Step {
  readonly step: string
  readonly tools?: string[]
  readonly text?: string
  readonly isError?: boolean
}

/** Of these scopes those that the server's file, or nothing but a mistake, could ask for. */
const ofServer = (scopes: readonly string[]): string[] =>
  ['books', 'mcp', 'payroll'].filter((scope) => scopes.includes(scope))

/**
 * With a refresh token, which Keycloak and Deputy give unasked, the client of the SDK 1.x for TypeScript refreshes instead of asking for
 * more scopes, and gives up when it is refused again.
 */
const refreshesInstead = (title: string, name: string): boolean =>
  name === 'typescript v1' && (title.startsWith('Keycloak') || title.endsWith('behind Deputy'))

/** An identity provider with a user alice, who is in the groups engineering and accounting. */
interface Provider {
  readonly issuer: string
  /** A public client that an admin has made; undefined: clients register themselves. */
  readonly client?: string
  /** Claims of the tenant's file. */
  readonly claims?: object
  /** Deputy is the authorization server, and signs users in here with this client. */
  readonly signIn?: { readonly client_id: string; readonly client_secret: string }
  close(): Promise<void>
}
/** @param pagesUrl the address of Deputy's pages */
type StartProvider = (resource: string, pagesUrl: string) => Promise<Provider>

const startOidcProvider: StartProvider = (resource) =>
  startCompanyIdp({
    resources: [resource],
    scope: 'mcp books payroll',
    registration: true,
    users: { alice: { groups: ['engineering', 'accounting'] } },
  })

/** Only Deputy is known there, and only Deputy asks. */
const startBehindDeputy: StartProvider = async (_resource, pagesUrl) => ({
  ...(await startCompanyIdp({
    resources: [],
    redirectUris: [`${pagesUrl}/connect/signed-in`],
    users: { alice: { groups: ['engineering', 'accounting'] } },
  })),
  signIn: SIGN_IN_CLIENT,
})

const aClientScope = (name: string, protocolMappers: readonly object[]): object => ({
  name,
  protocol: 'openid-connect',
  attributes: { 'include.in.token.scope': 'true' },
  protocolMappers,
})
const aMapper = (name: string, protocolMapper: string, config: object): object => ({
  name,
  protocol: 'openid-connect',
  protocolMapper,
  config: { 'access.token.claim': 'true', ...config },
})

/** As docs/keycloak.md and docs/mcp-clients.md have it: a client by hand, and scopes that it may ask for. */
const startKeycloakProvider: StartProvider = async (resource) => {
  const keycloak = await startKeycloak(keycloakProgram!)
  const realm = await keycloak.realm({
    settings: { passwordPolicy: 'hashAlgorithm(pbkdf2-sha256) and hashIterations(1)' },
    clientScopes: [
      aClientScope('mcp', [
        aMapper('audience', 'oidc-audience-mapper', { 'included.custom.audience': resource }),
        aMapper('groups', 'oidc-group-membership-mapper', { 'claim.name': 'groups', 'full.path': 'true' }),
      ]),
      ...['books', 'payroll'].map((name) => aClientScope(name, [])),
    ],
    clients: [
      {
        clientId: 'agent-app',
        publicClient: true,
        redirectUris: ['http://127.0.0.1/callback', 'http://localhost/callback'],
        attributes: { 'pkce.code.challenge.method': 'S256' },
        defaultClientScopes: ['basic', 'profile'],
        optionalClientScopes: ['mcp', 'books', 'offline_access'],
      },
    ],
    groups: ['engineering', 'accounting'].map((name) => ({ name, path: `/${name}` })),
    users: [aKeycloakUser('alice', { groups: ['/engineering', '/accounting'], realmRoles: ['offline_access'] })],
  })
  return {
    issuer: realm.issuer,
    client: 'agent-app',
    claims: { user: 'preferred_username' },
    close: () => keycloak.close(),
  }
}

const startKeycloakBehindDeputy: StartProvider = async (_resource, pagesUrl) => {
  const keycloak = await startKeycloak(keycloakProgram!)
  const realm = await keycloak.realm({
    settings: { passwordPolicy: 'hashAlgorithm(pbkdf2-sha256) and hashIterations(1)' },
    clients: [
      {
        clientId: SIGN_IN_CLIENT.client_id,
        secret: SIGN_IN_CLIENT.client_secret,
        redirectUris: [`${pagesUrl}/connect/signed-in`],
        defaultClientScopes: ['basic', 'profile'],
        protocolMappers: [
          aMapper('groups', 'oidc-group-membership-mapper', {
            'claim.name': 'groups',
            'full.path': 'true',
            'id.token.claim': 'true',
          }),
        ],
      },
    ],
    groups: ['engineering', 'accounting'].map((name) => ({ name, path: `/${name}` })),
    users: [aKeycloakUser('alice', { groups: ['/engineering', '/accounting'] })],
  })
  return {
    issuer: realm.issuer,
    claims: { user: 'preferred_username' },
    signIn: SIGN_IN_CLIENT,
    close: () => keycloak.close(),
  }
}

const tenantFiles = ({ issuer, claims = {}, signIn }: Provider): Files => ({
  'tenants/acme.yaml': {
    tenant: 'acme',
    issuers: [{ issuer, claims, algorithms: ['RS256', 'ES256'] }],
    ...(signIn === undefined
      ? {}
      : { sign_in: { issuer, client_id: signIn.client_id, client_secret: { file: 'sign-in' } } }),
  },
  ...(signIn === undefined ? {} : { 'sign-in': signIn.client_secret }),
})

const WORLDS: readonly (readonly [string, Sdk, StartProvider])[] = [
  ['oidc-provider', 'v2', startOidcProvider],
  ['oidc-provider', 'v1', startOidcProvider],
  ['oidc-provider behind Deputy', 'v2', startBehindDeputy],
  ['oidc-provider behind Deputy', 'v1', startBehindDeputy],
  ...(keycloakProgram === undefined
    ? []
    : [
        ['Keycloak', 'v2', startKeycloakProvider] as const,
        ['Keycloak behind Deputy', 'v2', startKeycloakBehindDeputy] as const,
      ]),
]

describe.each(WORLDS)(
  'A sign-in from nothing at a real %s, with the middleware for SDK %s',
  (title, sdk, startProvider) => {
    let provider: Provider
    let daemon: Daemon
    let server: RunningMcpServer

    beforeAll(async () => {
      const port = await freePort()
      const resource = `http://127.0.0.1:${port}/mcp`
      if (programs.has('gosdk')) {
        const built = await runProgram(['go', 'build', '-o', join(home, 'client'), '.'], { cwd: GO_SOURCE })
        if (built.code !== 0) throw new Error(built.err)
      }
      daemon = await prepareDaemon({})
      provider = await startProvider(resource, `http://127.0.0.1:${daemon.port}`)
      await daemon.write({
        ...aCompany({
          issuer: provider.issuer,
          notes: {
            name: 'Notes',
            resource,
            tenants: ['acme'],
            tools: TOOLS,
            basic_scopes: ['mcp'],
            sign_in: provider.signIn === undefined ? 'issuer' : 'deputy',
          },
        }),
        ...tenantFiles(provider),
        'tenants/globex.yaml': { tenant: 'globex', issuers: [{ issuer: 'https://other.example' }] },
        'policies/access/no-agent.cedar':
          '@id("no-agent") forbid (principal, action, resource == Deputy::Downstream::"agent");',
      })
      await daemon.start()
      const credential: Tools[string] = async ({ token }) =>
        String(decodeJwt((await token({ downstream: 'ledger' })).reveal())['scope'])
      server = await startMcpServer({
        sdk,
        port,
        socket: daemon.socketPath,
        tools: {
          whoami: ({ user }) => `${user.sub} of ${user.tenant}: ${ofServer(user.scopes).join(' ')}`,
          read_ledger: credential,
          write_ledger: credential,
          ask_agent: credential,
        },
      })
    })
    afterAll(async () => {
      await server?.close()
      await daemon?.close()
      await provider?.close()
    })

    it.for(CLIENT_NAMES)(
      'fault 76, fault 77: %s signs in with base scopes, and a tool that requires more adds its scopes',
      async (name, { skip }) => {
        const program = programs.get(name)
        if (program === undefined) return skip()
        const stepsUp = !refreshesInstead(title, name)
        server.reports.length = 0
        await writeFile(visits, '')
        const { out, err } = await runProgram(
          [...program, server.url, 'whoami', 'read_ledger', 'write_ledger', 'read_ledger', 'whoami', 'ask_agent'],
          {
            environment: {
              BROWSER,
              HOME: home,
              DEPUTY_TEST_USER: 'alice',
              DEPUTY_TEST_VISITS: visits,
              // A real browser for each client once; the other worlds differ in what does not concern it. The Go client closes its
              // listener while it answers, and a browser then asks again, which the client takes for its next answer.
              ...(title === 'oidc-provider behind Deputy' && sdk === 'v2' && name !== 'gosdk' && chromium !== undefined
                ? { DEPUTY_TEST_CHROMIUM: chromium }
                : {}),
              ...(provider.client === undefined ? {} : { DEPUTY_TEST_CLIENT: provider.client }),
            },
          },
        )
        const steps = out
          .split('\n')
          .filter((line) => line.startsWith('{"'))
          .map((line) => JSON.parse(line) as Step)
        expect(steps, `${out}\n${err}\n${await readFile(visits, 'utf8')}`).toEqual([
          { step: 'tools', tools: ['whoami', 'read_ledger', 'write_ledger'] },
          { step: 'whoami', text: 'alice of acme: mcp', isError: false },
          { step: 'read_ledger', text: 'ledger:read', isError: false },
          stepsUp
            ? { step: 'write_ledger', text: 'ledger:write', isError: false }
            : { step: 'write_ledger', text: expect.stringMatching(/403 after trying upscoping/), isError: true },
          { step: 'read_ledger', text: 'ledger:read', isError: false },
          { step: 'whoami', text: `alice of acme: ${stepsUp ? 'books ' : ''}mcp`, isError: false },
          { step: 'ask_agent', text: expect.stringMatching(/Tool ask_agent not found/), isError: true },
        ])
        const asked = (await readFile(visits, 'utf8'))
          .trim()
          .split('\n')
          .map((url) => new URL(url).searchParams)
        // Some ask for refresh tokens as well, and for what the provider gave unasked.
        expect(asked.map((each) => ofServer(each.get('scope')!.split(' ')))).toEqual(
          stepsUp ? [['mcp'], ['books', 'mcp']] : [['mcp']],
        )
        for (const each of asked)
          expect([each.get('code_challenge_method'), each.get('resource')]).toEqual(['S256', server.url])
        expect(server.reports).toEqual([expect.stringContaining('Policy does not let notes act on agent')])
      },
    )
  },
)
afterAll(() => rm(home, { recursive: true, force: true }))
