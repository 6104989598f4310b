/**
 * `deputy/mcp-v1`: as `deputy/mcp`, for `@modelcontextprotocol/sdk` 1.x (revision 2025-11-25 and older, with sessions).
 *
 *     const listener = createMcpListener({}, (deputy) => {
 *       const server = new McpServer({ name: 'notes', version: '1.0.0' })
 *       deputy.tool(server, 'list_notes', { description: 'Lists your notes' }, async (_input, { fetch }) => { … })
 *       return server
 *     })
 */
import { randomUUID } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import type { McpServer, RegisteredTool } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { RequestHandlerExtra } from '@modelcontextprotocol/sdk/shared/protocol.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import {
  isInitializeRequest,
  UrlElicitationRequiredError,
  type CallToolResult,
  type ServerNotification,
  type ServerRequest,
  type ToolAnnotations,
} from '@modelcontextprotocol/sdk/types.js'
import type { z } from 'zod'
import { DeputyClientError } from '../error.ts'
import {
  callerOf,
  createToolCall,
  type Caller,
  type McpUser,
  type ToolCall,
  type Wanting,
  type Wish,
} from './caller.ts'
import { connected, failed, plainly, questionOf, refusal, takesUrls } from './connection.ts'
import { createGate, sendRpcError, type McpListener, type McpOptions, type VouchedRequest } from './gate.ts'
import { createSessions, type Session } from './sessions.ts'

export { DeputyClientError, type McpListener, type McpOptions, type McpUser, type ToolCall, type Wish }

export type Extra = RequestHandlerExtra<ServerRequest, ServerNotification>

export interface ToolConfig<Input extends z.ZodType | undefined> {
  readonly title?: string
  readonly description?: string
  readonly inputSchema?: Input
  readonly outputSchema?: z.ZodType
  readonly annotations?: ToolAnnotations
  readonly _meta?: Record<string, unknown>
}

type InputOf<Input> = Input extends z.ZodType ? z.output<Input> : undefined

/** What a server is built with, for one session of one user. */
export interface McpBuilder {
  readonly user: Omit<McpUser, 'token'>
  /** Registers a tool. It is in the list, and can be called, while policy lets this user call it. */
  tool<Input extends z.ZodType | undefined = undefined>(
    server: McpServer,
    name: string,
    config: ToolConfig<Input>,
    handler: (input: InputOf<Input>, call: ToolCall<Extra>) => CallToolResult | Promise<CallToolResult>,
  ): void
}

interface McpSession extends Session {
  readonly server: McpServer
  readonly transport: StreamableHTTPServerTransport
  readonly tools: ReadonlyMap<string, GovernedTool>
}

/** A tool that is registered while policy lets the user call it. */
interface GovernedTool {
  readonly register: () => RegisteredTool
  registered: RegisteredTool | undefined
}

/** The client is told that its list has changed. */
const govern = (tools: ReadonlyMap<string, GovernedTool>, caller: Caller): void => {
  for (const [name, tool] of tools) {
    if (caller.mayCall(name)) tool.registered ??= tool.register()
    else {
      tool.registered?.remove()
      tool.registered = undefined
    }
  }
}

/**
 * How a client is asked to open a link: `error` answers the call with error -32042, and the client calls again;
 * `request` sends `elicitation/create`
 * while the call runs, and runs the tool once more when the user has connected. Clients that show no -32042, such as
 * the official one for Python, take the second.
 * @see https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation
 */
export type AsksBy = 'error' | 'request'

export interface McpV1Options extends McpOptions {
  /** Default `error`. */
  readonly asksBy?: AsksBy
}

/** How long a call that has asked its user to connect waits (ms), as in `deputy/mcp`. */
const WAIT = 30_000
/** Services that one call may ask its user to connect, one after the other. */
const MOST_QUESTIONS = 5

/** A connect link is good for so long (ms). */
const LINK = 600_000

export const createMcpListener = (
  options: McpV1Options,
  build: (deputy: McpBuilder) => McpServer | Promise<McpServer>,
): McpListener => {
  const sessions = createSessions<McpSession>(options.now ?? Date.now)

  /** What a session has asked its user to connect: the id of the question by what is wanted. */
  type Asked = Map<string, string>

  /** Tells the client when the user has connected what the question was about. */
  const follow = async (
    caller: Caller,
    server: McpServer,
    tool: string,
    { wish }: Wanting,
    id: string,
    signal: AbortSignal,
  ): Promise<void> => {
    if (
      await connected(gate.deputy, caller, tool, wish, Math.min(LINK, caller.user.token.expiresAt - Date.now()), signal)
    )
      await server.server.createElicitationCompletionNotifier(id)()
  }

  const ask = (
    caller: Caller,
    server: McpServer,
    tool: string,
    wanted: Wanting,
    asked: Asked,
    ended: AbortSignal,
  ): UrlElicitationRequiredError => {
    const key = JSON.stringify([wanted.wish.downstream, wanted.wish.scopes])
    let id = asked.get(key)
    if (id === undefined) {
      asked.set(key, (id = randomUUID()))
      follow(caller, server, tool, wanted, id, ended)
        .catch((error: unknown) => {
          if (!ended.aborted) gate.report((error as Error).message)
        })
        .finally(() => {
          asked.delete(key)
        })
    }
    return new UrlElicitationRequiredError([
      { mode: 'url', elicitationId: id, url: wanted.url, message: questionOf(wanted) },
    ])
  }

  /**
   * Asks while the call runs. `unasked`: the client does not take the question, or the user has not come back in time.
   */
  const putTo = async (
    caller: Caller,
    server: McpServer,
    tool: string,
    wanted: Wanting,
    { requestId, signal }: Extra,
  ): Promise<'connected' | 'declined' | 'unasked'> => {
    const question = {
      mode: 'url' as const,
      elicitationId: randomUUID(),
      url: wanted.url,
      message: questionOf(wanted),
    }
    const answer = await server.server
      .elicitInput(question, { relatedRequestId: requestId, timeout: LINK, signal })
      .catch(() => undefined)
    if (answer === undefined) return 'unasked'
    if (answer.action !== 'accept') return 'declined'
    // To accept is to have gone to the page, not to have finished there.
    return (await connected(gate.deputy, caller, tool, wanted.wish, options.wait ?? WAIT, signal))
      ? 'connected'
      : 'unasked'
  }

  const open = async (caller: Caller): Promise<McpSession> => {
    const id = randomUUID()
    const ended = new AbortController()
    const asked: Asked = new Map()
    const tools = new Map<string, GovernedTool>()

    const run = async (
      server: McpServer,
      name: string,
      extra: Extra,
      handler: (call: ToolCall<Extra>) => CallToolResult | Promise<CallToolResult>,
      left = MOST_QUESTIONS,
    ): Promise<CallToolResult> => {
      const of = callerOf(extra.authInfo)
      if (!of.mayCall(name)) return failed(`Tool ${name} not found`)
      const { call, wanting } = createToolCall(gate.deputy, of, name, extra)
      try {
        return await handler(call)
      } catch (error) {
        const wanted = wanting(error)
        if (wanted !== undefined && takesUrls(server.server.getClientCapabilities())) {
          const outcome =
            options.asksBy === 'request' && left > 0 ? await putTo(of, server, name, wanted, extra) : 'unasked'
          if (outcome === 'connected') return run(server, name, extra, handler, left - 1)
          if (outcome === 'declined')
            return failed(`${wanted.wish.downstream} was not connected, so ${name} cannot go on.`)
          throw ask(of, server, name, wanted, asked, ended.signal)
        }
        if (wanted !== undefined) return plainly(wanted)
        if (error instanceof DeputyClientError) return refusal(error)
        throw error
      }
    }

    const { token: _, ...user } = caller.user
    const server = await build({
      user,
      tool(on, name, config, handler) {
        const schema: z.ZodType | undefined = config.inputSchema
        const register = (): RegisteredTool =>
          schema === undefined
            ? on.registerTool(name, { ...config, inputSchema: undefined }, (extra: Extra) =>
                run(on, name, extra, (call) => handler(undefined as never, call)),
              )
            : on.registerTool(name, { ...config, inputSchema: schema }, (input: unknown, extra: Extra) =>
                run(on, name, extra, (call) => handler(input as never, call)),
              )
        tools.set(name, { register, registered: register() })
      },
    })
    govern(tools, caller)
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => id,
      onsessionclosed: () => {
        ended.abort()
        sessions.forget(id)
      },
    })
    await server.connect(transport as Transport)
    return {
      id,
      owner: caller.principal,
      server,
      transport,
      tools,
      close: async () => {
        ended.abort()
        await server.close()
      },
    }
  }

  const sessionOf = async (
    request: VouchedRequest,
    response: ServerResponse,
    body: unknown,
    caller: Caller,
  ): Promise<McpSession | undefined> => {
    const { 'mcp-session-id': id } = request.headers
    if (id === undefined) {
      if (!isInitializeRequest(body)) {
        sendRpcError(response, 400, -32_000, 'Bad Request: initialize first, then send Mcp-Session-Id.')
        return undefined
      }
      if (!sessions.hasRoom()) {
        sendRpcError(response, 503, -32_000, 'There are too many sessions.')
        return undefined
      }
      const session = await open(caller)
      sessions.add(session)
      return sessions.use(session.id, caller.principal, response)
    }
    const session = sessions.use(String(id), caller.principal, response)
    if (session === undefined) sendRpcError(response, 404, -32_001, 'Session not found')
    return session
  }

  const gate = createGate(options, async (request, response, body, caller) => {
    const session = await sessionOf(request, response, body, caller)
    if (session === undefined) return
    govern(session.tools, caller)
    await session.transport.handleRequest(request, response, body)
  })
  return Object.assign(gate.listener, {
    close: async () => {
      await sessions.close()
      gate.deputy.close()
    },
  })
}
