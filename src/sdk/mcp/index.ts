/**
 * `deputy/mcp`: an MCP server over HTTP, for `@modelcontextprotocol/server` 2.x, whose users Deputy verifies and whose
 * credentials Deputy keeps.
 *
 *     const listener = createMcpListener({}, (deputy) => {
 *       const server = new McpServer({ name: 'notes', version: '1.0.0' }, deputy.options)
 *       deputy.tool(server, 'list_notes', { description: 'Lists your notes' }, async (_input, { fetch }) => {
 *         const response = await fetch('notes-api')('https://notes.example/api/notes')
 *         return { content: [{ type: 'text', text: await response.text() }] }
 *       })
 *       return server
 *     })
 *     createServer(listener).listen(3000, '127.0.0.1')
 */
import { toNodeHandler } from '@modelcontextprotocol/node'
import {
  CLIENT_CAPABILITIES_META_KEY,
  createMcpHandler,
  inputRequired,
  type CallToolResult,
  type InputRequiredResult,
  type McpServer,
  type ServerContext,
  type ServerOptions,
  type StandardSchemaWithJSON,
  type ToolAnnotations,
} from '@modelcontextprotocol/server'
import { DeputyClientError } from '../error.ts'
import { callerOf, createToolCall, type Caller, type McpUser, type ToolCall, type Wish } from './caller.ts'
import { connected, failed, plainly, questionOf, refusal, takesUrls } from './connection.ts'
import { createGate, type McpListener, type McpOptions } from './gate.ts'
import { createRequestState, type RequestState, type RequestStateOptions } from './request-state.ts'

export {
  DeputyClientError,
  type McpListener,
  type McpOptions,
  type McpUser,
  type RequestStateOptions,
  type ToolCall,
  type Wish,
}

export interface ToolConfig<Input extends StandardSchemaWithJSON | undefined> {
  readonly title?: string
  readonly description?: string
  readonly inputSchema?: Input
  readonly outputSchema?: StandardSchemaWithJSON
  readonly annotations?: ToolAnnotations
  readonly _meta?: Record<string, unknown>
}

type InputOf<Input> = Input extends StandardSchemaWithJSON ? StandardSchemaWithJSON.InferOutput<Input> : undefined
type ToolResult = CallToolResult | InputRequiredResult

/** What a server is built with, for one request of one user. */
export interface McpBuilder {
  /** Give them to `new McpServer(info, options)`: they check the state that comes back from clients. */
  readonly options: ServerOptions
  readonly user: McpUser
  /** Signs state of the author's own rounds of input; it comes back in `call.mcp.mcpReq.requestState()`. */
  readonly requestState: Pick<RequestState, 'mint'>
  /** Registers a tool, if policy lets this user call it; else the server does not know it, neither in its list nor in a call. */
  tool<Input extends StandardSchemaWithJSON | undefined = undefined>(
    server: McpServer,
    name: string,
    config: ToolConfig<Input>,
    handler: (input: InputOf<Input>, call: ToolCall<ServerContext>) => ToolResult | Promise<ToolResult>,
  ): void
}

/** What the state says of a connection that the user was asked for. */
interface Asked {
  readonly deputyConnects: Wish
}
const askedIn = (state: unknown): Wish | undefined =>
  typeof state === 'object' && state !== null && 'deputyConnects' in state ? (state as Asked).deputyConnects : undefined

/** The name of the question in `inputRequests`. */
const CONNECT = 'connect'
const WAIT = 30_000

export const createMcpListener = (
  options: McpOptions & { readonly requestState?: RequestStateOptions },
  build: (deputy: McpBuilder) => McpServer | Promise<McpServer>,
): McpListener => {
  const requestState = createRequestState(options.requestState ?? {}, options.now ?? Date.now)

  /** Runs a tool; a credential that the user has to connect first becomes the question that the client can put to the user. */
  const run = async (
    caller: Caller,
    name: string,
    context: ServerContext,
    handler: (call: ToolCall<ServerContext>) => ToolResult | Promise<ToolResult>,
  ): Promise<ToolResult> => {
    const asked = askedIn(context.mcpReq.requestState())
    if (asked !== undefined) {
      const answer = context.mcpReq.inputResponses?.[CONNECT]
      const action = typeof answer === 'object' && answer !== null && 'action' in answer ? answer.action : undefined
      // To accept is to have gone to the page, not to have finished there.
      if (action === 'accept')
        await connected(gate.deputy, caller, name, asked, options.wait ?? WAIT, context.mcpReq.signal)
      else if (action === 'decline' || action === 'cancel')
        return failed(`${asked.downstream} was not connected, so ${name} cannot go on.`)
    }
    const { call, wanting } = createToolCall(gate.deputy, caller, name, context)
    try {
      return await handler(call)
    } catch (error) {
      const wanted = wanting(error)
      if (wanted === undefined) {
        if (error instanceof DeputyClientError) return refusal(error)
        throw error
      }
      // Clients of older revisions are served without a session, so nothing is known of what they can do.
      const envelope: Readonly<Record<string, unknown>> = context.mcpReq.envelope ?? {}
      if (!takesUrls(envelope[CLIENT_CAPABILITIES_META_KEY])) return plainly(wanted)
      const { downstream, scopes } = wanted.wish
      const state: Asked = { deputyConnects: { downstream, ...(scopes === undefined ? {} : { scopes }) } }
      return inputRequired({
        inputRequests: { [CONNECT]: inputRequired.elicitUrl({ message: questionOf(wanted), url: wanted.url }) },
        requestState: await requestState.mint(state, context),
      })
    }
  }

  /** The client learns that its state is refused; why is for the server's operator. */
  const verify: RequestState['verify'] = async (state, context) => {
    try {
      return await requestState.verify(state, context)
    } catch (error) {
      gate.report(`A client's requestState was refused (${(error as Error).message}).`)
      throw error
    }
  }

  const builderFor = (caller: Caller): McpBuilder => ({
    options: { requestState: { verify } },
    user: caller.user,
    requestState,
    tool(server, name, config, handler) {
      const schema: StandardSchemaWithJSON | undefined = config.inputSchema
      const registered =
        schema === undefined
          ? server.registerTool(name, { ...config, inputSchema: undefined }, (context) =>
              run(callerOf(context.http?.authInfo), name, context, (call) => handler(undefined as never, call)),
            )
          : server.registerTool(name, { ...config, inputSchema: schema }, (input, context) =>
              run(callerOf(context.http?.authInfo), name, context, (call) => handler(input as never, call)),
            )
      if (!caller.mayCall(name)) registered.remove()
    },
  })

  const handler = createMcpHandler(({ authInfo }) => build(builderFor(callerOf(authInfo))), {
    onerror: (error) => {
      gate.report(error.message)
    },
  })
  const answer = toNodeHandler(handler, {
    onerror: (error) => {
      gate.report(error.message)
    },
  })
  const gate = createGate(options, (request, response, body) => answer(request, response, body))
  return Object.assign(gate.listener, {
    close: async () => {
      await handler.close()
      gate.deputy.close()
    },
  })
}
