/** MCP servers behind the middleware of both SDKs, in this process, and the clients of both. */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { Client as ClientV2, StreamableHTTPClientTransport as TransportV2 } from '@modelcontextprotocol/client'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import {
  createMcpListener as createListenerV2,
  type McpOptions,
  type RequestStateOptions,
  type ToolCall,
} from '../../src/sdk/mcp/index.ts'
import { createMcpListener as createListenerV1, type AsksBy } from '../../src/sdk/mcp/v1.ts'

export type Sdk = 'v1' | 'v2'
export type Tools = Readonly<Record<string, (call: ToolCall<unknown>) => string | Promise<string>>>

export interface RunningMcpServer {
  readonly url: string
  readonly port: number
  /** What it has reported. */
  readonly reports: string[]
  /** The last request as it came to it. */
  requests(): readonly IncomingMessage[]
  close(): Promise<void>
}

export interface McpServerOptions extends McpOptions {
  readonly sdk: Sdk
  readonly port: number
  readonly tools: Tools
  readonly requestState?: RequestStateOptions
  readonly asksBy?: AsksBy
}

export const startMcpServer = async ({ sdk, port, tools, ...options }: McpServerOptions): Promise<RunningMcpServer> => {
  const reports: string[] = []
  const requests: IncomingMessage[] = []
  const given = {
    ...options,
    report: (problem: string) => {
      reports.push(problem)
    },
  }
  const said = (text: string) => ({ content: [{ type: 'text' as const, text }] })
  const listener =
    sdk === 'v2'
      ? createListenerV2(given, (deputy) => {
          const server = new McpServerV2({ name: 'test', version: '1.0.0' }, deputy.options)
          for (const [name, run] of Object.entries(tools))
            deputy.tool(server, name, {}, async (_input, call) => said(await run(call)))
          return server
        })
      : createListenerV1(given, (deputy) => {
          const server = new McpServerV1({ name: 'test', version: '1.0.0' })
          for (const [name, run] of Object.entries(tools))
            deputy.tool(server, name, {}, async (_input, call) => said(await run(call)))
          return server
        })
  const server = createServer((request, response) => {
    requests.push(request)
    listener(request, response)
  }).listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    port,
    reports,
    requests: () => requests,
    async close() {
      server.close()
      server.closeAllConnections()
      await listener.close()
    },
  }
}

export interface McpClient {
  tools(): Promise<string[]>
  /** The text of a tool's result. @throws whatever the SDK throws */
  call(name: string, args?: Record<string, unknown>): Promise<{ text: string; isError: boolean }>
  close(): Promise<void>
}
export interface McpClientOptions {
  readonly sdk: Sdk
  readonly url: string
  readonly token: string
  /** URL elicitation is declared, and answered by this. */
  readonly onUrl?: (params: {
    url: string
    message: string
    elicitationId?: string
  }) => Promise<'accept' | 'decline' | 'cancel'>
  /** Ids of elicitations that the server said are complete (v1). */
  readonly onComplete?: (elicitationId: string) => void
  readonly revision?: 'auto' | 'legacy'
}

const textOf = (result: unknown): { text: string; isError: boolean } => {
  const { content, isError } = result as { content: { text: string }[]; isError?: boolean }
  return { text: content.map(({ text }) => text).join('\n'), isError: isError === true }
}

export const connectMcpClient = async (options: McpClientOptions): Promise<McpClient> => {
  const { sdk, url, token, onUrl, onComplete, revision } = options
  const requestInit = { headers: { authorization: `Bearer ${token}` } }
  const capabilities = onUrl === undefined ? {} : { elicitation: { url: {} } }
  if (sdk === 'v2') {
    const client = new ClientV2(
      { name: 'test', version: '1.0.0' },
      { capabilities, versionNegotiation: { mode: revision ?? { pin: '2026-07-28' } } },
    )
    if (onUrl !== undefined)
      client.setRequestHandler('elicitation/create', async ({ params }) => ({
        action: await onUrl(params as Parameters<typeof onUrl>[0]),
      }))
    await client.connect(new TransportV2(new URL(url), { requestInit }))
    return {
      tools: async () => (await client.listTools()).tools.map(({ name }) => name),
      call: async (name, args = {}) => textOf(await client.callTool({ name, arguments: args }, { timeout: 30_000 })),
      close: () => client.close(),
    }
  }
  const client = new ClientV1({ name: 'test', version: '1.0.0' }, { capabilities })
  if (onUrl !== undefined) {
    const { ElicitRequestSchema } = await import('@modelcontextprotocol/sdk/types.js')
    client.setRequestHandler(ElicitRequestSchema, async ({ params }) => ({
      action: await onUrl(params as Parameters<typeof onUrl>[0]),
    }))
  }
  if (onComplete !== undefined) {
    const { ElicitationCompleteNotificationSchema } = await import('@modelcontextprotocol/sdk/types.js')
    client.setNotificationHandler(ElicitationCompleteNotificationSchema, ({ params }) => {
      onComplete(params.elicitationId)
    })
  }
  await client.connect(new TransportV1(new URL(url), { requestInit }) as Transport)
  return {
    tools: async () => (await client.listTools()).tools.map(({ name }) => name),
    call: async (name, args = {}) => textOf(await client.callTool({ name, arguments: args })),
    close: () => client.close(),
  }
}
