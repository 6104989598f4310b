/** From a client that knows the URL alone to an answer of the user's own service: sign-in at Deputy, a connection, and tools over HTTP and stdio. */
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport as StdioV1 } from '@modelcontextprotocol/sdk/client/stdio.js'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { SIGN_IN_CLIENT, startCompanyIdp, type CompanyIdp } from '../peers/company-idp.ts'
import type { NotesService } from '#dev'
import { NOTES_CLIENT, startNotesPeer } from '../peers/notes-service.ts'
import { PASSWORD } from '../peers/openid-server.ts'
import { createBrowser, type Browser, type Page } from '../peers/walk.ts'
import { ask, prepareDaemonHere, type DaemonHere } from '../support/daemon.ts'
import { apiFiles } from '../support/hosted.ts'
import { CLI, freePort } from '../support/process.ts'
import { registerClient, signInAtClient } from '../support/sign-in.ts'

let idp: CompanyIdp
let service: NotesService
let daemon: DaemonHere
let url: string
let issuer: string

const notesDocument = (server: string): object => ({
  openapi: '3.1.0',
  info: { title: 'Notes', version: '1' },
  servers: [{ url: server }],
  components: {
    securitySchemes: {
      service: {
        type: 'oauth2',
        flows: {
          authorizationCode: {
            authorizationUrl: 'https://notes.example/authorize',
            tokenUrl: 'https://notes.example/token',
            scopes: { 'notes:read': 'Read', 'notes:write': 'Write' },
          },
        },
      },
    },
  },
  paths: {
    '/notes': {
      get: {
        operationId: 'listNotes',
        security: [{ service: ['notes:read'] }],
        responses: {
          200: {
            description: 'Notes',
            content: {
              'application/json': {
                schema: {
                  type: 'object',
                  properties: { user: { type: 'string' }, notes: { type: 'array', items: { type: 'string' } } },
                },
              },
            },
          },
        },
      },
      delete: {
        operationId: 'deleteNotes',
        security: [{ service: ['notes:write'] }],
        responses: { 204: { description: 'Gone' } },
      },
    },
  },
})

beforeAll(async () => {
  const mcpPort = await freePort()
  url = `http://127.0.0.1:${mcpPort}/mcp`
  daemon = await prepareDaemonHere({}, { listen: { mcp: `127.0.0.1:${mcpPort}` } })
  issuer = `http://127.0.0.1:${daemon.port}`
  idp = await startCompanyIdp({ resources: [], redirectUris: [`${issuer}/connect/signed-in`] })
  service = await startNotesPeer({ redirectUri: `${issuer}/connect/callback` })
  await daemon.write({
    'secrets/sign-in': SIGN_IN_CLIENT.client_secret,
    'secrets/notes': NOTES_CLIENT.client_secret,
    'tenants/acme.yaml': {
      tenant: 'acme',
      name: 'Acme',
      issuers: [{ issuer: idp.issuer }],
      sign_in: { issuer: idp.issuer, client_id: SIGN_IN_CLIENT.client_id, client_secret: { file: 'secrets/sign-in' } },
    },
    'providers/notes.yaml': {
      provider: 'notes',
      name: 'Notes',
      issuer: service.url,
      discovery: true,
      refresh: { rotates: true, narrows: true },
      revocation: 'rfc7009',
      authorization_parameters: { prompt: 'consent' },
      offline_scope: 'offline_access',
    },
    'downstreams/notes-api.yaml': {
      downstream: 'notes-api',
      name: 'Notes',
      credential: 'oauth_grant',
      provider: 'notes',
      client: { client_id: NOTES_CLIENT.client_id, client_secret: { file: 'secrets/notes' } },
      scopes: { 'notes:read': 'Read your notes', 'notes:write': 'Change your notes' },
      inject: { hosts: [service.url], as: { header: 'Authorization', value: 'Bearer {credential}' }, only: true },
    },
    ...apiFiles('notes', notesDocument(service.api), { downstream: 'notes-api', tools: [{ path: '/notes' }] }),
    'servers/notes-tools.yaml': {
      server: 'notes-tools',
      name: 'Notes',
      resource: url,
      tenants: ['acme'],
      owner: 'notes@acme.example',
      status: 'approved',
      sign_in: 'deputy',
      login_session: true,
      apis: [{ api: 'notes' }],
      downstreams: { 'notes-api': { scopes: ['notes:read', 'notes:write'] } },
    },
    'policies/access/test.cedar': `
permit (principal == Deputy::User::"acme/alice", action == Deputy::Action::"oauth_grant", resource)
when { context has operation && context.operation.read_only };
permit (principal == Deputy::User::"acme/bob", action == Deputy::Action::"oauth_grant", resource);`,
  })
  await daemon.start()
}, 60_000)
afterAll(async () => {
  await daemon?.close()
  await service?.close()
  await idp?.close()
})

const clients: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const each of clients.splice(0)) await each.close()
})

const tokenOf = async (user: string): Promise<string> => {
  const client = await registerClient({ url: issuer })
  const { access_token: token, ...rest } = await signInAtClient({ url: issuer }, client, {
    user,
    parameters: { resource: url },
    fields: { resource: url },
  })
  if (token === undefined) throw new Error(JSON.stringify(rest))
  return token
}

type OnUrl = (link: string) => Promise<void>

const answering = (client: Client, onUrl: OnUrl): Client => {
  client.setRequestHandler('elicitation/create', async ({ params }) => {
    await onUrl((params as { url: string }).url)
    return { action: 'accept' as const }
  })
  return client
}

const overHttp = async (user: string, onUrl: OnUrl): Promise<Client> => {
  const client = answering(
    new Client(
      { name: 'test', version: '1.0.0' },
      { capabilities: { elicitation: { url: {} } }, versionNegotiation: { mode: { pin: '2026-07-28' } } },
    ),
    onUrl,
  )
  clients.push(client)
  await client.connect(
    new StreamableHTTPClientTransport(new URL(url), {
      requestInit: { headers: { authorization: `Bearer ${await tokenOf(user)}` } },
    }),
  )
  return client
}

const pass = async (browser: Browser, first: Page, user: string, at: string): Promise<Page> => {
  let page = first
  for (let step = 0; step < 3 && page.url.startsWith(at); step += 1)
    page = page.body.includes('name="login"')
      ? await browser.submit(page, { login: user, password: PASSWORD })
      : await browser.submit(page, { decision: 'allow' })
  return page
}
/** The user opens the link, signs in, consents at Deputy, and allows at the service. */
const connectService = async (link: string, user: string): Promise<void> => {
  const browser = createBrowser()
  let page = await pass(browser, await browser.open(link), user, idp.url)
  page = await browser.submit(page, { decision: 'allow' })
  page = await pass(browser, page, `${user}-notes`, service.url)
  expect(page.status).toBe(200)
}

const names = async (client: { listTools(): Promise<{ tools: { name: string }[] }> }): Promise<string[]> =>
  (await client.listTools()).tools.map(({ name }) => name).sort()

describe('a user of a service with OAuth', () => {
  it('promise 1: a user without a connection is asked, connects in the browser, and gets the own data; another user may more', async () => {
    const asked: string[] = []
    const alice = await overHttp('alice', async (link) => {
      asked.push(link)
      await connectService(link, 'alice')
    })
    expect(await names(alice)).toEqual(['listNotes'])
    const result = await alice.callTool({ name: 'listNotes', arguments: {} })
    expect(asked).toHaveLength(1)
    expect(result).toMatchObject({ structuredContent: { user: 'alice-notes', notes: ['A note of alice-notes'] } })
    await expect(alice.callTool({ name: 'deleteNotes', arguments: {} })).rejects.toThrow(/not found/)
    const bob = await overHttp('bob', () => Promise.reject(new Error('not asked for a list')))
    expect(await names(bob)).toEqual(['deleteNotes', 'listNotes'])
  })

  it('promise 4: a revocation ends it, and the next call asks again', async () => {
    let asked = 0
    const alice = await overHttp('alice', async (link) => {
      asked += 1
      await connectService(link, 'alice')
    })
    expect(await alice.callTool({ name: 'listNotes', arguments: {} })).toMatchObject({ structuredContent: {} })
    const before = asked
    const { out } = await daemon.deputy('grant', 'list', '--json')
    const [grant] = (JSON.parse(out) as { id: string; status: string }[]).filter(({ status }) => status === 'active')
    expect((await daemon.deputy('revoke', '--grant', grant!.id, '--reason', 'test')).code).toBe(0)
    expect(await alice.callTool({ name: 'listNotes', arguments: {} })).toMatchObject({ structuredContent: {} })
    expect(asked).toBe(before + 1)
  })
})

describe('deputy mcp', () => {
  const command = { command: process.execPath, args: [CLI, 'mcp', 'notes-tools', '--home', ''] }

  it('without a sign-in the client learns how to sign in', async () => {
    command.args[4] = daemon.home
    const client = new Client({ name: 'test', version: '1.0.0' })
    clients.push(client)
    await client.connect(new StdioClientTransport({ ...command, stderr: 'ignore' }))
    await expect(client.listTools()).rejects.toThrow(/deputy login/)
  })

  it.each(['2026-07-28', '2025-11-25'] as const)(
    'the Unix user who has signed in has the tools, and is asked to connect (%s)',
    async (revision) => {
      command.args[4] = daemon.home
      const { url: link } = (
        await ask(
          { socketPath: daemon.socketPath },
          {
            path: '/session',
            headers: { 'content-type': 'application/x-www-form-urlencoded' },
            body: new URLSearchParams({ tenant: 'acme' }).toString(),
          },
        )
      ).body as { url: string }
      const browser = createBrowser()
      await browser.submit(await pass(browser, await browser.open(link), 'alice', idp.url), { decision: 'allow' })
      const { out } = await daemon.deputy('grant', 'list', '--json')
      for (const { id, status } of JSON.parse(out) as { id: string; status: string }[])
        if (status === 'active') await daemon.deputy('revoke', '--grant', id, '--reason', 'test')
      let asked = 0
      const onUrl = async (page: string): Promise<void> => {
        asked += 1
        await connectService(page, 'alice')
      }
      if (revision === '2026-07-28') {
        const client = answering(
          new Client(
            { name: 'test', version: '1.0.0' },
            { capabilities: { elicitation: { url: {} } }, versionNegotiation: { mode: { pin: revision } } },
          ),
          onUrl,
        )
        clients.push(client)
        await client.connect(new StdioClientTransport({ ...command, stderr: 'ignore' }))
        expect(await names(client)).toEqual(['listNotes'])
        expect(await client.callTool({ name: 'listNotes', arguments: {} })).toMatchObject({
          structuredContent: { user: 'alice-notes' },
        })
      } else {
        const { ElicitRequestSchema } = await import('@modelcontextprotocol/sdk/types.js')
        const client = new ClientV1({ name: 'test', version: '1' }, { capabilities: { elicitation: { url: {} } } })
        client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
          await onUrl((params as { url: string }).url)
          return { action: 'accept' as const }
        })
        clients.push(client)
        await client.connect(new StdioV1({ ...command, stderr: 'ignore' }))
        expect(await names(client)).toEqual(['listNotes'])
        expect(await client.callTool({ name: 'listNotes', arguments: {} })).toMatchObject({
          structuredContent: { user: 'alice-notes' },
        })
      }
      expect(asked).toBe(1)
    },
    30_000,
  )
})
