import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  ask,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'

const TOOLS = {
  read_ledger: { downstream: 'ledger', scopes: ['ledger:read'], requires: ['ledger'], description: 'Reads' },
  write_ledger: { downstream: 'ledger', scopes: ['ledger:write'] },
  mail: { downstream: 'mail' },
  clock: {},
}
const FORM = { 'content-type': 'application/x-www-form-urlencoded' }
let issuer: TestIssuer
let daemon: RunningDaemon

beforeAll(async () => {
  issuer = await startTestIssuer()
  daemon = await startDaemonHere(
    aCompany({ issuer: issuer.url, notes: { name: 'Notes', tools: TOOLS, basic_scopes: ['mcp'] } }),
  )
})
afterAll(async () => {
  await daemon?.close()
  await issuer?.close()
})

const userToken = (claims: object = {}): Promise<string> =>
  issuer.sign({ aud: RESOURCES.notes, org: 'acme', scope: 'mcp ledger', client_id: 'agent-app', ...claims })
const post = (path: string, form: Record<string, string>): Promise<Answer> =>
  ask(daemon, { path, headers: FORM, body: new URLSearchParams(form).toString() })
const tools = async (token: string): Promise<Answer> => post('/tools', { subject_token: token })
const introspect = async (token: string): Promise<Answer> => post('/oauth2/introspect', { token })

describe('GET /server', () => {
  it('tells a server what it is registered as, and whose tokens it accepts', async () => {
    const { status, body, headers } = await ask(daemon, { path: '/server' })
    expect(status).toBe(200)
    expect(headers['cache-control']).toBe('no-store')
    expect(body).toMatchObject({
      server: 'notes',
      name: 'Notes',
      resource: RESOURCES.notes,
      authorization_servers: [issuer.url],
      scopes_supported: ['mcp'],
      tools: { read_ledger: { downstream: 'ledger', scopes: ['ledger:read'], requires: ['ledger'] } },
    })
    expect((await post('/server', {})).body).toEqual(body)
  })

  it('promise 10: only who proves to be a server is told anything, and no web page is', async () => {
    expect((await post('/server', { client_id: 'calendar' })).body).toMatchObject({ reason: 'workload_unknown' })
    expect((await ask(daemon, { path: '/server', headers: { origin: 'http://localhost' } })).body).toMatchObject({
      reason: 'foreign_caller',
    })
  })
})

describe('POST /tools', () => {
  it('says whose token it is, and which tools policy lets that user call', async () => {
    const { status, body, headers } = await tools(await userToken())
    expect(status).toBe(200)
    expect(headers['x-correlation-id']).toBeDefined()
    expect(body).toMatchObject({
      active: true,
      sub: 'alice',
      tenant: 'acme',
      iss: issuer.url,
      aud: RESOURCES.notes,
      scope: 'mcp ledger',
      client_id: 'agent-app',
      exp: expect.any(Number),
      tools: {
        read_ledger: { allowed: true, downstream: 'ledger', scopes: ['ledger:read'], requires: ['ledger'] },
        write_ledger: { allowed: false, scopes: [] },
        mail: { allowed: true },
        clock: { allowed: true, scopes: [] },
      },
    })
    expect((await tools(await userToken({ groups: ['accounting'] }))).body['tools']).toMatchObject({
      write_ledger: { allowed: true, scopes: ['ledger:write'] },
    })
  })

  it("faults 77 and 78, promise 1: what a tool requires of the user's token is told, and asked for by the exchange; an unlisted tool gets nothing", async () => {
    const token = await userToken({ scope: 'mcp' })
    const view = (await tools(token)).body['tools'] as Record<string, object>
    expect(view['read_ledger']).toMatchObject({ allowed: true, requires: ['ledger'], missing: ['ledger'] })
    expect(view['mail']).not.toHaveProperty('missing')
    const asked = (subject: string, tool: string, audience = 'ledger') =>
      daemon.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: subject,
        subject_token_type: ACCESS_TOKEN,
        audience,
        tool,
      })
    const refused = await asked(token, 'read_ledger')
    expect([refused.status, refused.body]).toMatchObject([
      403,
      { error: 'insufficient_scope', reason: 'insufficient_scope', scope: 'ledger' },
    ])
    const whole = await userToken()
    expect((await asked(whole, 'read_ledger')).body).toMatchObject({ scope: 'ledger:read' })
    expect((await asked(whole, 'reed_ledger')).body).toMatchObject({ reason: 'tool_unknown' })
    expect((await asked(whole, 'mail')).body).toMatchObject({ error: 'invalid_target', reason: 'tool_other_target' })
  })

  it('agrees with the exchange, tool by tool', async () => {
    for (const groups of [['engineering'], ['accounting'], []]) {
      const token = await userToken({ groups })
      const told = (await tools(token)).body['tools'] as Record<string, { allowed: boolean }>
      for (const tool of ['read_ledger', 'write_ledger']) {
        const { status } = await daemon.token({
          grant_type: TOKEN_EXCHANGE,
          subject_token: token,
          subject_token_type: ACCESS_TOKEN,
          audience: 'ledger',
          tool,
        })
        expect([groups, tool, told[tool]!.allowed]).toEqual([groups, tool, status === 200])
      }
    }
  })
})

describe("a user's token that a server was sent", () => {
  it('promise 2: is live for the server for which it was issued, and says so with its claims', async () => {
    expect((await introspect(await userToken())).body).toMatchObject({
      active: true,
      sub: 'alice',
      tenant: 'acme',
      scope: 'mcp ledger',
      client_id: 'agent-app',
      token_type: 'Bearer',
    })
  })

  it('threat 17, promise 2: everything else is exactly {"active":false}, and the record says why', async () => {
    const bad: Record<string, string> = {
      subject_audience_mismatch: await userToken({ aud: RESOURCES.calendar }),
      subject_token_expired: await userToken({ exp: 1000 }),
      subject_tenant_unknown: await userToken({ org: 'nobody' }),
      subject_issuer_unknown: await userToken({ iss: 'https://evil.example' }),
      actor_mismatch: await userToken({ may_act: { sub: 'calendar' } }),
      subject_token_invalid: 'not-a-token',
    }
    for (const [problem, token] of Object.entries(bad)) {
      expect((await introspect(token)).text).toBe('{"active":false}')
      const answer = await tools(token)
      expect(answer.text).toBe('{"active":false}')
      const story = JSON.parse(
        (await daemon.deputy('explain', String(answer.headers['x-correlation-id']), '--json')).out,
      ) as object
      expect(JSON.stringify(story)).toContain(problem)
      expect(JSON.stringify(story)).not.toContain(token)
    }
  })

  it('promise 4: stops being live in the moment in which it is revoked, its user disabled or its tenant frozen', async () => {
    const live = async (token: string): Promise<unknown[]> => [
      (await introspect(token)).body['active'],
      (await tools(token)).body['active'],
    ]
    const changes: [string[], string[]?][] = [
      [
        ['user', 'disable', '--tenant', 'acme', '--user', 'dora'],
        ['user', 'enable', '--tenant', 'acme', '--user', 'dora'],
      ],
      [
        ['tenant', 'freeze', '--tenant', 'acme'],
        ['tenant', 'thaw', '--tenant', 'acme'],
      ],
      [['revoke', '--tenant', 'acme', '--user', 'dora', '--reason', 'test']],
    ]
    for (const [change, back] of changes) {
      const token = await userToken({ sub: 'dora' })
      expect(await live(token)).toEqual([true, true])
      expect((await daemon.deputy(...change)).code).toBe(0)
      expect(await live(token)).toEqual([false, false])
      if (back !== undefined) expect((await daemon.deputy(...back)).code).toBe(0)
    }
  })

  it('promise 9: an issuer that is away is said to be away, not that the token is dead', async () => {
    const other = await startTestIssuer()
    await daemon.write({ 'tenants/initech.yaml': { tenant: 'initech', issuers: [{ issuer: other.url }] } })
    await daemon.write({
      'servers/notes.yaml': {
        server: 'notes',
        resource: RESOURCES.notes,
        tenants: '*',
        owner: 'o',
        status: 'approved',
        attest: [{ unix: { uid: process.getuid!() } }],
      },
    })
    expect((await daemon.deputy('reload')).code).toBe(0)
    const token = await other.sign({ aud: RESOURCES.notes })
    await other.close()
    expect((await tools(token)).body).toMatchObject({ reason: 'issuer_unreachable', error: 'temporarily_unavailable' })
  })
})
