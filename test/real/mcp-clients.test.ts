/**
 * MCP clients that are not ours sign their user in from nothing: each knows the server's URL alone. It gets a 401, reads
 * the metadata (RFC 9728), registers at a real oidc-provider, authorizes with PKCE, calls tools, and asks for more scopes
 * when a tool requires them. Every client meets the middleware of both SDKs.
 */
import { spawn } from 'node:child_process'
import { once, type EventEmitter } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startCompanyIdp, type CompanyIdp } from '../peers/company-idp.ts'
import { needPeer } from '../peers/programs.ts'
import { aCompany } from '../support/configuration.ts'
import { startDaemonProcess, type Daemon } from '../support/daemon.ts'
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

/** What a client is started with, without the server's URL and the tools to call. */
type Program = readonly [string, ...string[]]
const programs = new Map<string, Program>()
const home = await mkdtemp(join(tmpdir(), 'deputy-clients-'))

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

const runProgram = async (
  [program, ...args]: Program,
  options: { cwd?: string; environment?: NodeJS.ProcessEnv } = {},
): Promise<{ code: number; out: string; err: string }> => {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: options.cwd,
    env: { ...process.env, ...options.environment },
  })
  const written = { out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (written.out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (written.err += text))
  const [code] = (await once(child, 'close')) as [number]
  return { code, ...written }
}

/** What a client asked the identity provider for. */
interface Authorization {
  readonly scope: string
  readonly code_challenge_method: string
  readonly resource: string
}
const sorted = (scope = ''): string[] => scope.split(' ').sort()

interface Step {
  readonly step: string
  readonly tools?: string[]
  readonly text?: string
  readonly isError?: boolean
}

describe.each(['v2', 'v1'] satisfies Sdk[])('A sign-in from nothing, with the middleware for SDK %s', (sdk) => {
  let idp: CompanyIdp
  let daemon: Daemon
  let server: RunningMcpServer
  const asked: Authorization[] = []
  /** The scopes of each token. */
  const granted: string[][] = []

  beforeAll(async () => {
    const port = await freePort()
    const resource = `http://127.0.0.1:${port}/mcp`
    if (programs.has('gosdk')) {
      const built = await runProgram(['go', 'build', '-o', join(home, 'client'), '.'], { cwd: GO_SOURCE })
      if (built.code !== 0) throw new Error(built.err)
    }
    idp = await startCompanyIdp({
      resources: [resource],
      scope: 'mcp books payroll',
      registration: true,
      users: { alice: { groups: ['engineering', 'accounting'] } },
    })
    const events: EventEmitter = idp.provider
    events.on('authorization.success', ({ oidc }: { oidc: { params: Authorization } }) => {
      const { scope, code_challenge_method, resource: of } = oidc.params
      asked.push({ scope, code_challenge_method, resource: of })
    })
    events.on('access_token.issued', ({ scope }: { scope?: string }) => granted.push(sorted(scope)))
    daemon = await startDaemonProcess({
      ...aCompany({
        issuer: idp.url,
        notes: { name: 'Notes', resource, tenants: ['acme'], tools: TOOLS, basic_scopes: ['mcp'] },
      }),
      'tenants/acme.yaml': { tenant: 'acme', issuers: [{ issuer: idp.url }] },
      'tenants/globex.yaml': { tenant: 'globex', issuers: [{ issuer: 'https://other.example' }] },
      'policies/access/no-agent.cedar':
        '@id("no-agent") forbid (principal, action, resource == Deputy::Downstream::"agent");',
    })
    const credential: Tools[string] = async ({ token }) =>
      String(decodeJwt((await token({ downstream: 'ledger' })).reveal())['scope'])
    server = await startMcpServer({
      sdk,
      port,
      socket: daemon.socketPath,
      tools: {
        whoami: ({ user }) => `${user.sub} of ${user.tenant}`,
        read_ledger: credential,
        write_ledger: credential,
        ask_agent: credential,
      },
    })
  })
  afterAll(async () => {
    await server?.close()
    await daemon?.close()
    await idp?.close()
  })

  it.for(['typescript v1', 'typescript v2', 'mcp', 'mcp1', 'fastmcp', 'gosdk'])(
    'fault 76, fault 77: %s signs in with base scopes, and a tool that requires more adds its scopes',
    async (name, { skip }) => {
      const program = programs.get(name)
      if (program === undefined) return skip()
      asked.length = granted.length = server.reports.length = 0
      const { out, err } = await runProgram(
        [...program, server.url, 'whoami', 'read_ledger', 'write_ledger', 'read_ledger', 'ask_agent'],
        { environment: { BROWSER, DEPUTY_TEST_USER: 'alice', HOME: home } },
      )
      const steps = out
        .split('\n')
        .filter((line) => line.startsWith('{"'))
        .map((line) => JSON.parse(line) as Step)
      expect(steps, `${out}\n${err}`).toEqual([
        { step: 'tools', tools: ['whoami', 'read_ledger', 'write_ledger'] },
        { step: 'whoami', text: 'alice of acme', isError: false },
        { step: 'read_ledger', text: 'ledger:read', isError: false },
        { step: 'write_ledger', text: 'ledger:write', isError: false },
        { step: 'read_ledger', text: 'ledger:read', isError: false },
        { step: 'ask_agent', text: expect.stringMatching(/Tool ask_agent not found/), isError: true },
      ])
      // Some ask for refresh tokens as well.
      expect(asked.map(({ scope }) => sorted(scope).filter((each) => each !== 'offline_access'))).toEqual([
        ['mcp'],
        ['books', 'mcp'],
      ])
      for (const each of asked) expect(each).toMatchObject({ code_challenge_method: 'S256', resource: server.url })
      expect(granted).toEqual([['mcp'], ['books', 'mcp']])
      expect(server.reports).toEqual([expect.stringContaining('Policy does not let notes act on agent')])
    },
  )
})
afterAll(() => rm(home, { recursive: true, force: true }))
