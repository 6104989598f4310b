import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { UrlElicitationRequiredError } from '@modelcontextprotocol/sdk/types.js'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startWorld, type World } from '../../../quickstart/world.ts'
import type { ClientKey } from '../../../src/sdk/index.ts'
import { createBrowser, type Browser, type Page } from '../../peers/walk.ts'
import { ask, type Answer } from '../../support/daemon.ts'
import {
  connectMcpClient,
  startMcpServer,
  type McpClient,
  type McpClientOptions,
  type McpServerOptions,
  type RunningMcpServer,
  type Sdk,
} from '../../support/mcp.ts'

let world: World
let server: RunningMcpServer | undefined
let client: McpClient | undefined
beforeAll(async () => {
  world = await startWorld(() => {}, { servers: false })
})
afterAll(async () => {
  await world?.close()
})
afterEach(async () => {
  await client?.close()
  await server?.close()
  client = server = undefined
  for (const { id } of await grants())
    expect((await world.deputy('revoke', '--grant', id, '--reason', 'the next test')).code).toBe(0)
})

const start = async (sdk: Sdk, options: Partial<McpServerOptions> = {}): Promise<RunningMcpServer> => {
  const config = JSON.parse(await readFile(join(world.home, 'notes-server.json'), 'utf8')) as {
    port: number
    socket: string
    issuer: string
    key: ClientKey['key']
  }
  return (server = await startMcpServer({
    sdk,
    port: config.port,
    socket: config.socket,
    clientId: 'notes',
    clientKey: { key: config.key, issuer: config.issuer },
    wait: 5000,
    tools: {
      list_notes: async ({ fetch }) => (await fetch('notes-api')(`${world.api.url}/notes`)).text(),
      other: () => 'other',
    },
    ...options,
  }))
}
const tokenOf = (user: string): Promise<string> => world.token(user, 'notes')
const connectAs = async (user: string, options: Partial<McpClientOptions> & { sdk: Sdk }): Promise<McpClient> =>
  (client = await connectMcpClient({ url: server!.url, token: await tokenOf(user), ...options }))

const pass = async (browser: Browser, first: Page, user: string, url: string): Promise<Page> => {
  let page = first
  for (let at = 0; at < 3 && page.url.startsWith(url); at += 1)
    page = page.body.includes('name="login"')
      ? await browser.submit(page, { login: user })
      : await browser.submit(page, { decision: 'allow' })
  return page
}
/** The user opens the link, signs in as `user`, consents, and allows at the service. */
const walk = async (link: string, user = 'alice'): Promise<Page> => {
  const browser = createBrowser()
  let page = await pass(browser, await browser.open(link), user, world.idp.url)
  if (page.status !== 200) return page
  page = await browser.submit(page, { decision: 'allow' })
  return pass(browser, page, `${user}-notes`, world.service.url)
}
const grants = async (): Promise<{ id: string }[]> =>
  (JSON.parse((await world.deputy('grant', 'list', '--json')).out) as { id: string; status: string }[]).filter(
    ({ status }) => status === 'active',
  )

const META = (capabilities: object) => ({
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'raw', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': capabilities,
})
const URLS = { elicitation: { url: {} } }
/** One request of revision 2026-07-28 as it is on the wire. */
const raw = async (
  token: string,
  params: Record<string, unknown>,
  capabilities: object = URLS,
  method = 'tools/call',
): Promise<Answer> =>
  ask(
    { port: server!.port },
    {
      path: '/mcp',
      method: 'POST',
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: Math.floor(Math.random() * 1e9),
        method,
        params: { ...params, _meta: META(capabilities) },
      }),
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': '2026-07-28',
        'mcp-method': method,
        ...(typeof params['name'] === 'string' ? { 'mcp-name': params['name'] } : {}),
      },
    },
  )
interface Required {
  resultType: string
  inputRequests: { connect: { method: string; params: { mode: string; url: string; message: string } } }
  requestState: string
}
const result = ({ body }: Answer): Required & { isError?: boolean; content?: { text: string }[] } =>
  body['result'] as Required
const call = { name: 'list_notes', arguments: {} }

describe('towards clients of 2026-07-28', () => {
  it('requirement 3: a missing connection is an input_required result with a URL, and the retry succeeds', async () => {
    await start('v2')
    const asked: { url: string; message: string }[] = []
    await connectAs('alice', {
      sdk: 'v2',
      onUrl: async (params) => {
        asked.push(params)
        expect((await walk(params.url)).body).toContain('Connected')
        return 'accept'
      },
    })
    expect(await client!.call('list_notes')).toMatchObject({
      isError: false,
      text: expect.stringContaining('A note of alice-notes'),
    })
    expect(asked).toMatchObject([{ mode: 'url', message: expect.stringMatching(/connected Notes/) }])
    // Once connected nobody is asked again.
    expect((await client!.call('list_notes')).isError).toBe(false)
    expect(asked).toHaveLength(1)
  })

  it('requirement 4: to accept is to go to the page: the call waits for the user to finish there', async () => {
    await start('v2')
    let walking: Promise<Page> | undefined
    await connectAs('alice', {
      sdk: 'v2',
      onUrl: async ({ url }) => {
        walking = new Promise((resolve) => {
          setTimeout(resolve, 700)
        }).then(() => walk(url))
        return 'accept'
      },
    })
    expect((await client!.call('list_notes')).text).toContain('A note of alice-notes')
    expect((await walking)!.body).toContain('Connected')
  })

  it('a user who declines is not asked again by the same call', async () => {
    await start('v2')
    let times = 0
    await connectAs('alice', {
      sdk: 'v2',
      onUrl: async () => {
        times += 1
        return 'decline'
      },
    })
    expect(await client!.call('list_notes')).toEqual({
      isError: true,
      text: 'notes-api was not connected, so list_notes cannot continue.',
    })
    expect(times).toBe(1)
  })

  it('requirements 1 and 4: only a client that declared elicitation.url is asked that way; no -32042 to anybody', async () => {
    await start('v2')
    const token = await tokenOf('alice')
    expect(result(await raw(token, call)).resultType).toBe('input_required')
    for (const capabilities of [
      {},
      { elicitation: {} },
      { elicitation: { form: {} } },
      { elicitation: { url: true } },
    ]) {
      const answer = await raw(token, call, capabilities)
      expect(answer.text).not.toContain('-32042')
      if (answer.body['error'] !== undefined) continue
      expect(result(answer)).toMatchObject({
        isError: true,
        content: [{ text: expect.stringMatching(/Open this link to connect it, then try again: http/) }],
      })
    }
  })

  it("requirement 5: the link carries neither a token nor the user's name, and the state is not of a kind to be read", async () => {
    await start('v2')
    const token = await tokenOf('alice')
    const {
      inputRequests: { connect },
      requestState,
    } = result(await raw(token, call))
    expect(connect.method).toBe('elicitation/create')
    expect(connect.params.url).not.toMatch(/alice|token|eyJ/)
    const [, body] = requestState.split('.')
    for (const text of [Buffer.from(body!, 'base64url').toString(), requestState])
      expect(text).not.toMatch(/alice|eyJhbGciOi/)
  })

  const refused = ({ body }: Answer): unknown => (body['error'] as { code: number } | undefined)?.code

  it("requirement 3: a state that was tampered with, is another user's, another call's or another process's is refused with -32602", async () => {
    await start('v2', { wait: 0 })
    const [alice, bob] = [await tokenOf('alice'), await tokenOf('bob')]
    const fresh = async (): Promise<string> => result(await raw(alice, call)).requestState
    const retry = (token: string, requestState: unknown, params: object = call): Promise<Answer> =>
      raw(token, { ...params, requestState, inputResponses: { connect: { action: 'cancel' } } })
    const state = await fresh()
    const flipped = state.slice(0, 10) + (state[10] === 'A' ? 'B' : 'A') + state.slice(11)
    for (const bad of [`${state}x`, flipped, state.slice(0, -1), 'v1.e30.AAAA', 'x', 7, {}])
      expect([bad, refused(await retry(alice, bad))]).toEqual([bad, -32_602])
    expect(refused(await retry(bob, await fresh()))).toBe(-32_602)
    expect(refused(await retry(alice, await fresh(), { name: 'other', arguments: {} }))).toBe(-32_602)
    expect(refused(await retry(alice, await fresh(), { ...call, arguments: { more: 1 } }))).toBe(-32_602)
    // The same call, with its parameters in another order, is the same call.
    expect(refused(await retry(alice, await fresh(), { arguments: {}, name: 'list_notes' }))).toBeUndefined()
    const early = await fresh()
    await server!.close()
    await start('v2', { wait: 0 })
    expect(refused(await retry(alice, early))).toBe(-32_602)
    expect(server!.reports.at(-1)).toBe("A client's requestState was refused (mac).")
  })

  it('requirement 3: a state is good once, and for a short time', async () => {
    const key = new Uint8Array(32).fill(7)
    await start('v2', { wait: 0, requestState: { key } })
    const alice = await tokenOf('alice')
    const { requestState } = result(await raw(alice, call))
    const retry = (): Promise<Answer> =>
      raw(alice, { ...call, requestState, inputResponses: { connect: { action: 'accept' } } })
    const again = result(await retry())
    expect(again.resultType).toBe('input_required')
    expect(again.requestState).not.toBe(requestState)
    expect(refused(await retry())).toBe(-32_602)
    await server!.close()
    await start('v2', { wait: 0, requestState: { key, lifetime: -10 } })
    const late = result(await raw(alice, call)).requestState
    expect(refused(await raw(alice, { ...call, requestState: late }))).toBe(-32_602)
  })

  it('a client of 2025 is served in the plainest form', async () => {
    await start('v2')
    await connectAs('alice', { sdk: 'v1', onUrl: async () => 'accept' })
    const { isError, text } = await client!.call('list_notes')
    expect(isError).toBe(true)
    const link = /http\S+\/connect\/\S+/.exec(text)![0]
    expect((await walk(link)).body).toContain('Connected')
    expect((await client!.call('list_notes')).text).toContain('A note of alice-notes')
  })

  it('threat 11: a link that is handed on to somebody else connects nothing, for neither of them', async () => {
    await start('v2', { wait: 0 })
    const alice = await tokenOf('alice')
    const {
      inputRequests: {
        connect: {
          params: { url },
        },
      },
      requestState,
    } = result(await raw(alice, call))
    const page = await walk(url, 'bob')
    expect([page.status, page.body.includes('a user other than')]).toEqual([403, true])
    expect(
      result(await raw(alice, { ...call, requestState, inputResponses: { connect: { action: 'accept' } } })).resultType,
    ).toBe('input_required')
    expect(await grants()).toEqual([])
  })
})

describe('towards clients of 2025-11-25', () => {
  const elicitationsOf = async (): Promise<{ mode: string; url: string; elicitationId: string }[]> => {
    const error = await client!.call('list_notes').then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    expect(error).toBeInstanceOf(UrlElicitationRequiredError)
    return (error as UrlElicitationRequiredError).elicitations as { mode: string; url: string; elicitationId: string }[]
  }

  it('requirement 2: a missing connection is error -32042 with the link, and the client is told when the user has connected', async () => {
    await start('v1')
    let complete: (id: string) => void = () => undefined
    const completed = new Promise<string>((resolve) => {
      complete = resolve
    })
    await connectAs('alice', {
      sdk: 'v1',
      onUrl: async () => 'accept',
      onComplete: (id) => {
        complete(id)
      },
    })
    const [elicitation] = await elicitationsOf()
    expect(elicitation).toMatchObject({
      mode: 'url',
      url: expect.stringContaining('/connect/'),
      elicitationId: expect.any(String),
    })
    // Asked twice it is one question, with one answer.
    expect(await elicitationsOf()).toEqual([elicitation])
    expect((await walk(elicitation!.url)).body).toContain('Connected')
    expect(await completed).toBe(elicitation!.elicitationId)
    expect((await client!.call('list_notes')).text).toContain('A note of alice-notes')
  })

  it('fault 87: a client that shows no -32042 is asked while the call runs, which goes on when the user has connected', async () => {
    await start('v1', { asksBy: 'request', wait: 20_000 })
    await connectAs('alice', { sdk: 'v1', onUrl: async () => 'decline' })
    expect(await client!.call('list_notes')).toMatchObject({
      isError: true,
      text: 'notes-api was not connected, so list_notes cannot continue.',
    })
    await client!.close()
    await connectAs('alice', {
      sdk: 'v1',
      onUrl: async ({ url }) => {
        expect((await walk(url)).body).toContain('Connected')
        return 'accept'
      },
    })
    expect((await client!.call('list_notes')).text).toContain('A note of alice-notes')
  })

  it('requirement 4: a client that did not declare elicitation.url gets the link in the text of the result', async () => {
    await start('v1')
    await connectAs('alice', { sdk: 'v1' })
    expect(await client!.call('list_notes')).toMatchObject({
      isError: true,
      text: expect.stringMatching(/Open this link to connect it, then try again: http/),
    })
  })

  it('threat 11: a link that is handed on connects nothing', async () => {
    await start('v1')
    await connectAs('alice', { sdk: 'v1', onUrl: async () => 'accept' })
    const [elicitation] = await elicitationsOf()
    expect((await walk(elicitation!.url, 'bob')).status).toBe(403)
    expect(await elicitationsOf()).toHaveLength(1)
    expect(await grants()).toEqual([])
  })
})
