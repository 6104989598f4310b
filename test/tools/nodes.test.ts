/** Two nodes of a cluster that serve the same tools, without daemons: real HTTP, and a caller whom each has verified. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Snapshot } from '../../src/config/index.ts'
import { refuse } from '../../src/errors.ts'
import { createHostedServers, type HostedServers } from '../../src/listeners/mcp/index.ts'

const RESOURCES = { notes: 'http://127.0.0.1/notes', mails: 'http://127.0.0.1/mails' }
const open: { server: Server; hosted: HostedServers; calls: string[] }[] = []

const startNode = async (): Promise<(typeof open)[number]> => {
  const calls: string[] = []
  const servers = Object.entries(RESOURCES).map(([server, resource]) => [server, { server, resource, apis: [{}] }])
  const tool = { name: 'read', inputSchema: { type: 'object' }, effects: {}, operation: {} }
  const hosted = createHostedServers({
    snapshot: () =>
      ({
        servers: new Map(servers as []),
        hosted: new Map(Object.keys(RESOURCES).map((server) => [server, new Map([['read', { tool }]])])),
      }) as unknown as Snapshot,
    serverView: {
      describe: ({ evidence }) => {
        const { server } = (evidence as { hosted: { server: 'notes' } }).hosted
        return Promise.resolve({
          server,
          name: server,
          resource: RESOURCES[server],
          authorization_servers: ['http://127.0.0.1/idp'],
          scopes_supported: [],
          downstreams: {},
          tools: {},
        })
      },
      caller: () =>
        Promise.resolve({
          answer: {
            active: true,
            iss: 'http://127.0.0.1/idp',
            sub: 'alice',
            tenant: 'acme',
            exp: Math.floor(Date.now() / 1000) + 60,
            tools: {},
          },
          judge: () => ({ scopes: [], requires: [] }),
        } as never),
    },
    toolCalls: {
      call: ({ server }) => {
        calls.push(server)
        return calls.length > 1 || open.some((each) => each.calls !== calls && each.calls.length > 0)
          ? Promise.resolve({ isError: false, content: [{ type: 'text', text: 'connected' }], deviations: [] })
          : Promise.reject(
              refuse('interaction_required', { downstream: 'x', server, connect_url: 'https://connect.example/x' }),
            )
      },
      close: () => Promise.resolve(),
    },
    correlationId: () => 'test',
    logger: { info: () => undefined, error: () => undefined } as never,
    now: Date.now,
    stateKey: (server) => createHash('sha256').update(server).digest(),
  })
  const server = createServer(hosted.onRequest).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const node = { server, hosted, calls }
  open.push(node)
  return node
}

const portOf = ({ server }: { server: Server }): number => (server.address() as AddressInfo).port

beforeAll(async () => {
  await startNode()
  await startNode()
})
afterAll(async () => {
  for (const { server, hosted } of open) {
    await hosted.close()
    server.closeAllConnections()
    server.close()
  }
})

/** A client that sends the retry of a call, with its state, elsewhere. */
const clientOf = async (moved: (url: URL) => void): Promise<Client> => {
  const client = new Client(
    { name: 'test', version: '1.0.0' },
    { capabilities: { elicitation: { url: {} } }, versionNegotiation: { mode: { pin: '2026-07-28' } } },
  )
  client.setRequestHandler('elicitation/create', () => Promise.resolve({ action: 'accept' as const }))
  await client.connect(
    new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${portOf(open[0]!)}/notes`), {
      requestInit: { headers: { authorization: 'Bearer a-token' } },
      fetch: (given, init) => {
        const url = new URL(String(given))
        if (String(init?.body).includes('requestState')) moved(url)
        return fetch(url, init)
      },
    }),
  )
  return client
}

describe('a question that one node has put', () => {
  it('is answered at another, and not at another server', async () => {
    const client = await clientOf((url) => {
      url.port = String(portOf(open[1]!))
    })
    expect(await client.callTool({ name: 'read', arguments: {} })).toMatchObject({
      content: [{ type: 'text', text: 'connected' }],
    })
    await client.close()
    for (const { calls } of open) calls.length = 0
    const other = await clientOf((url) => {
      url.pathname = '/mails'
    })
    await expect(other.callTool({ name: 'read', arguments: {} })).rejects.toThrow()
    await other.close()
  })
})
