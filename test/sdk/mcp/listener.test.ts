import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ToolCall } from '../../../src/sdk/mcp/index.ts'
import { aCompany, LEDGER, RESOURCES } from '../../support/configuration.ts'
import {
  ask,
  startDaemonHere,
  startTestIssuer,
  type Answer,
  type RunningDaemon,
  type TestIssuer,
} from '../../support/daemon.ts'
import { connectMcpClient, startMcpServer, type McpClient, type RunningMcpServer, type Sdk } from '../../support/mcp.ts'
import { freePort } from '../../support/process.ts'
import { decodeJwt } from 'jose'

const TOOLS = {
  read_ledger: { downstream: 'ledger', scopes: ['ledger:read'] },
  write_ledger: { downstream: 'ledger', scopes: ['ledger:write'], requires: ['books'] },
  wrong: {},
}

describe.each(['v2', 'v1'] satisfies Sdk[])('the listener for SDK %s', (sdk) => {
  let issuer: TestIssuer
  let daemon: RunningDaemon
  let server: RunningMcpServer
  let resource: string
  let seen: ToolCall<unknown> | undefined

  beforeAll(async () => {
    const port = await freePort()
    resource = `http://127.0.0.1:${port}/mcp`
    issuer = await startTestIssuer()
    daemon = await startDaemonHere(
      aCompany({ issuer: issuer.url, notes: { name: 'Notes', resource, tools: TOOLS, basic_scopes: ['mcp'] } }),
    )
    server = await startMcpServer({
      sdk,
      port,
      socket: daemon.socketPath,
      patience: 300,
      tools: {
        whoami: (call) => {
          seen = call
          return JSON.stringify(call.user)
        },
        read_ledger: async ({ token }) => JSON.stringify(decodeJwt((await token({ downstream: 'ledger' })).reveal())),
        write_ledger: async ({ token }) => (await token({ downstream: 'ledger' })).scopes.join(' '),
        wrong: async ({ token }) => {
          await token({ downstream: 'nothing' })
          return 'never'
        },
        broken: () => {
          throw new Error('it broke')
        },
      },
    })
  })
  afterAll(async () => {
    await server?.close()
    await daemon?.close()
    await issuer?.close()
  })

  const userToken = (claims: object = {}): Promise<string> =>
    issuer.sign({ aud: resource, org: 'acme', scope: 'mcp', ...claims })
  const using = async <T>(token: string, work: (client: McpClient) => Promise<T>): Promise<T> => {
    const client = await connectMcpClient({ sdk, url: server.url, token })
    try {
      return await work(client)
    } finally {
      await client.close()
    }
  }
  const post = (
    headers: Record<string, string | string[]>,
    more: { path?: string; body?: string } = {},
  ): Promise<Answer> =>
    ask(
      { port: server.port },
      {
        path: more.path ?? '/mcp',
        method: 'POST',
        body: more.body ?? JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }),
        headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers },
      },
    )
  const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` })
  const challengeOf = ({ headers }: Answer): string => String(headers['www-authenticate'])
  const metadataUrl = (): string => resource.replace('/mcp', '/.well-known/oauth-protected-resource/mcp')

  it('fault 76, requirement 10: serves its protected resource metadata where RFC 9728 says, to everybody', async () => {
    const { status, body, headers } = await ask(
      { port: server.port },
      { path: '/.well-known/oauth-protected-resource/mcp' },
    )
    expect(status).toBe(200)
    expect(body).toEqual({
      resource,
      resource_name: 'Notes',
      authorization_servers: [issuer.url],
      bearer_methods_supported: ['header'],
      scopes_supported: ['mcp'],
    })
    expect(headers['access-control-allow-origin']).toBe('*')
    for (const path of ['/.well-known/oauth-protected-resource', '//', '/mcp/'])
      expect((await ask({ port: server.port }, { path })).status).toBe(404)
    expect(
      (await ask({ port: server.port }, { path: '/.well-known/oauth-protected-resource/mcp', method: 'POST' })).status,
    ).toBe(405)
  })

  it('fault 76, requirement 8: a request without a token learns where the metadata is, and asks for what no single tool needs', async () => {
    const answer = await post({})
    expect(answer.status).toBe(401)
    expect(challengeOf(answer)).toBe(`Bearer scope="mcp", resource_metadata="${metadataUrl()}"`)
  })

  it('promise 2, requirement 7: a token for another server is refused and recorded, and so is every other bad one', async () => {
    const bad = {
      subject_audience_mismatch: await userToken({ aud: RESOURCES.calendar }),
      subject_token_expired: await userToken({ exp: 1000 }),
      subject_issuer_unknown: await userToken({ iss: 'https://evil.example' }),
      subject_token_invalid: 'no-token',
    }
    for (const [problem, token] of Object.entries(bad)) {
      const answer = await post(bearer(token))
      expect([problem, answer.status]).toEqual([problem, 401])
      expect(challengeOf(answer)).toMatch(
        /^Bearer error="invalid_token", error_description="[^"]+", scope="mcp", resource_metadata="[^"]+"$/,
      )
      expect(answer.text + challengeOf(answer)).not.toContain(token)
      const id = /\(([\w-]{26})\)/.exec(answer.text)![1]!
      expect((await daemon.deputy('explain', id)).out).toContain(problem)
    }
  })

  it('requirement 8: a token in the query string, two of them, or another scheme is refused', async () => {
    const token = await userToken()
    const inQuery = await post(bearer(token), { path: `/mcp?access_token=${token}` })
    expect([inQuery.status, inQuery.body['error']]).toEqual([400, 'invalid_request'])
    expect((await post({ authorization: [`Bearer ${token}`, `Bearer ${token}`] })).status).toBe(400)
    expect((await post({ authorization: `Basic ${Buffer.from('a:b').toString('base64')}` })).status).toBe(400)
  })

  it('threat 1: a foreign Host, Origin or both are refused before the token is looked at; a page that is let in is not', async () => {
    const token = await userToken()
    const local = { host: `127.0.0.1:${server.port}` }
    for (const headers of [
      { host: 'evil.example' },
      { host: `localhost.evil.example:${server.port}` },
      { host: 'localhost@evil.example' },
      { ...local, origin: 'http://evil.example' },
      { ...local, origin: 'null' },
      { ...local, origin: ['http://localhost', 'http://evil.example'] },
    ]) {
      const answer = await post({ ...bearer(token), ...headers })
      expect([JSON.stringify(headers), answer.status]).toEqual([JSON.stringify(headers), 403])
    }
    expect((await post({ ...local, origin: 'http://localhost:6274' })).status).toBe(401)
  })

  it('what is no JSON, too much of it, or of another type reaches no tool', async () => {
    const authorization = bearer(await userToken())
    expect((await post(authorization, { body: '{' })).body).toMatchObject({ error: { code: -32_700 } })
    expect((await post({ ...authorization, 'content-type': 'text/plain' })).status).toBe(415)
    expect((await post(authorization, { body: JSON.stringify('x'.repeat(5_000_000)) })).status).toBe(413)
  })

  it('hands the verified user to the tool, and a credential for this user and this tool', async () => {
    await using(await userToken({ client_id: 'agent-app' }), async (client) => {
      expect(JSON.parse((await client.call('whoami')).text)).toMatchObject({
        sub: 'alice',
        tenant: 'acme',
        issuer: issuer.url,
        scopes: ['mcp'],
        clientId: 'agent-app',
        token: '[token]',
      })
      expect(JSON.parse((await client.call('read_ledger')).text)).toMatchObject({
        sub: 'alice',
        aud: LEDGER,
        scope: 'ledger:read',
        act: { sub: 'notes' },
      })
    })
    const { out } = await daemon.deputy('audit', 'tail', '--limit', '5', '--json')
    expect(out).toContain('"tool":"read_ledger"')
  })

  it("promise 5: the user's token is nowhere in what a tool can print, nor in what the server reports", async () => {
    const token = await userToken()
    await using(token, (client) => client.call('whoami'))
    for (const text of [
      inspect(seen, { depth: 12, showHidden: true }),
      JSON.stringify(seen!.user),
      ...server.requests().map(({ headers, rawHeaders }) => inspect([headers, rawHeaders])),
      ...server.reports,
    ])
      expect(text).not.toContain(token)
    expect(seen!.user.token.reveal()).toBe(token)
  })

  it('shows and runs only the tools that policy lets this user call', async () => {
    await using(await userToken(), async (client) => {
      expect(await client.tools()).toEqual(['whoami', 'read_ledger', 'wrong', 'broken'])
      expect(
        await client.call('write_ledger').then(
          ({ isError, text }) => isError && text,
          (error: Error) => error.message,
        ),
      ).toMatch(/Tool write_ledger not found$/)
    })
    await using(await userToken({ groups: ['accounting'], scope: 'mcp books' }), async (client) => {
      expect(await client.tools()).toContain('write_ledger')
      expect((await client.call('write_ledger')).text).toBe('ledger:write')
    })
  })

  it('fault 25: a call of a tool that policy hides is reported, with the reason and the id under which the rule is found', async () => {
    const before = server.reports.length
    const token = await userToken()
    await using(token, async (client) => {
      await client.call('write_ledger').catch(() => undefined)
      await client.call('nothing').catch(() => undefined)
    })
    const lines = server.reports.slice(before).filter((line) => line.includes('hidden'))
    expect(lines).toHaveLength(1)
    const id = /deputy explain (\S+)/.exec(lines[0]!)?.[1]
    expect(lines[0]).toMatch(
      /^A client called the tool write_ledger, which is hidden from its user: Policy does not let notes act on ledger for this user\. No policy permits it\./,
    )
    expect(lines[0]).not.toContain(token)
    expect((await daemon.deputy('explain', id!)).out).toContain(
      'The tool write_ledger is hidden from this user: Policy does not let notes act on ledger',
    )
  })

  it('requirement 8: a tool that needs more scope than the token has is 403 insufficient_scope, with what to ask for', async () => {
    const call = JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name: 'write_ledger', arguments: {} },
    })
    const answer = await post(bearer(await userToken({ groups: ['accounting'] })), { body: call })
    expect(answer.status).toBe(403)
    expect(challengeOf(answer)).toBe(
      `Bearer error="insufficient_scope", error_description="This needs the scope books.", scope="mcp books", resource_metadata="${metadataUrl()}"`,
    )
  })

  it("promise 9: an error of Deputy's reaches the client with its correlation id; a tool's own is the tool's", async () => {
    await using(await userToken(), async (client) => {
      const { text, isError } = await client.call('wrong')
      expect(isError).toBe(true)
      expect(text).toMatch(/^No downstream service is registered as nothing for notes\. \([\w-]{26}\)$/)
      expect(await client.call('broken')).toEqual({ isError: true, text: 'it broke' })
    })
  })

  it('promise 4: a revoked user is refused with the very next request of a client that is connected', async () => {
    await using(await userToken({ sub: 'dora' }), async (client) => {
      expect((await client.call('whoami')).isError).toBe(false)
      expect((await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'dora', '--reason', 'test')).code).toBe(0)
      await expect(client.call('whoami')).rejects.toThrow(/invalid_token/)
    })
  })

  it('what policy takes away or gives holds from the next request on', async () => {
    await using(await userToken({ groups: ['accounting'] }), async (client) => {
      expect(await client.tools()).toContain('read_ledger')
      await daemon.write({
        'policies/access/zz.cedar':
          '@id("no-ledger") forbid (principal, action, resource == Deputy::Downstream::"ledger");',
      })
      expect((await daemon.deputy('reload')).code).toBe(0)
      expect(await client.tools()).not.toContain('read_ledger')
      await daemon.write({ 'policies/access/zz.cedar': '// nothing' })
      expect((await daemon.deputy('reload')).code).toBe(0)
      expect(await client.tools()).toContain('read_ledger')
    })
  })

  it('promise 9: says that it cannot check tokens while Deputy is away, and goes on when it is back', async () => {
    const token = await userToken()
    await daemon.stop()
    const answer = await post(bearer(token))
    expect([answer.status, answer.headers['retry-after']]).toEqual([503, '1'])
    expect(answer.text).not.toContain(daemon.socketPath)
    expect(server.reports.at(-1)).toMatch(/could not be reached/)
    // Where it is and whom it trusts has not changed meanwhile.
    expect((await ask({ port: server.port }, { path: '/.well-known/oauth-protected-resource/mcp' })).status).toBe(200)
    await daemon.start()
    expect((await using(token, (client) => client.call('whoami'))).isError).toBe(false)
    expect(server.reports.join('\n')).not.toContain(token)
  })
})

describe('the listener for older revisions', () => {
  let issuer: TestIssuer
  let daemon: RunningDaemon
  let server: RunningMcpServer
  let resource: string
  beforeAll(async () => {
    const port = await freePort()
    resource = `http://127.0.0.1:${port}/mcp`
    issuer = await startTestIssuer()
    daemon = await startDaemonHere(aCompany({ issuer: issuer.url, notes: { resource } }))
    server = await startMcpServer({
      sdk: 'v1',
      port,
      socket: daemon.socketPath,
      tools: { whoami: ({ user }) => user.sub },
    })
  })
  afterAll(async () => {
    await server?.close()
    await daemon?.close()
    await issuer?.close()
  })

  const userToken = (user: string): Promise<string> => issuer.sign({ aud: resource, org: 'acme', sub: user })
  const send = async (user: string, headers: Record<string, string>, message: object): Promise<Answer> =>
    ask(
      { port: server.port },
      {
        path: '/mcp',
        method: 'POST',
        body: JSON.stringify({ jsonrpc: '2.0', id: 1, ...message }),
        headers: {
          authorization: `Bearer ${await userToken(user)}`,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          ...headers,
        },
      },
    )
  const initialize = {
    method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } },
  }

  it('threat 24: a session belongs to the user who began it, and to nobody else who knows its id', async () => {
    const begun = await send('alice', {}, initialize)
    const session = { 'mcp-session-id': String(begun.headers['mcp-session-id']) }
    expect(
      (await send('alice', session, { method: 'tools/call', params: { name: 'whoami', arguments: {} } })).text,
    ).toContain('alice')
    const stolen = await send('bob', session, { method: 'tools/call', params: { name: 'whoami', arguments: {} } })
    expect([stolen.status, stolen.text.includes('alice')]).toEqual([404, false])
    expect((await send('alice', { 'mcp-session-id': 'unknown' }, { method: 'tools/list' })).status).toBe(404)
    expect((await send('alice', {}, { method: 'tools/list' })).status).toBe(400)
  })

  it('a revision that nobody knows is answered with one that the server knows', async () => {
    const { text, status } = await send(
      'alice',
      {},
      { ...initialize, params: { ...initialize.params, protocolVersion: '2031-01-01' } },
    )
    expect(status).toBe(200)
    expect(text).toContain('"protocolVersion":"2025-11-25"')
  })
})
