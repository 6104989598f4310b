/**
 * `deputy-sdk/mcp`: an MCP server over HTTP, for `@modelcontextprotocol/server` 2.x, whose users Deputy verifies and
 * whose credentials Deputy keeps.
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
import {
  callerOf,
  createToolCall,
  type Caller,
  type CredentialRequest,
  type McpUser,
  type ToolCall,
  type Wanting,
  type Wish,
} from './caller.ts'
import { CONNECT_WAIT_MS, failed, plainly, questionOf, refusal, takesUrls, waitForConnection } from './connection.ts'
import { createGate, type Gate, type McpListener, type McpOptions } from './gate.ts'
import { createRequestState, type RequestState, type RequestStateOptions } from './request-state.ts'

export {
  DeputyClientError,
  type CredentialRequest,
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
interface ConnectState {
  readonly deputyConnects: CredentialRequest
}
const requestIn = (state: unknown): CredentialRequest | undefined =>
  typeof state === 'object' && state !== null && 'deputyConnects' in state
    ? (state as ConnectState).deputyConnects
    : undefined

/** The name of the question in `inputRequests`. */
const CONNECT = 'connect'

/** What the tools of a listener share. */
interface ListenerContext {
  readonly gate: () => Pick<Gate, 'deputy' | 'report'>
  readonly requestState: RequestState
  /** How long a call waits for the user to connect a service (ms). */
  readonly wait: number
}

/** A call of a tool. */
interface RunningCall {
  readonly caller: Caller
  readonly tool: string
  readonly context: ServerContext
  readonly handler: (call: ToolCall<ServerContext>) => ToolResult | Promise<ToolResult>
}

/** Waits for the connection that the previous round asked for. @returns false when the user declined it */
const awaitConnection = async (
  { caller, tool, context }: RunningCall,
  request: CredentialRequest,
  { gate, wait }: ListenerContext,
): Promise<boolean> => {
  const answer = context.mcpReq.inputResponses?.[CONNECT]
  const action = typeof answer === 'object' && answer !== null && 'action' in answer ? answer.action : undefined
  // To accept is to have gone to the page, not to have finished there.
  if (action === 'accept')
    await waitForConnection(gate().deputy, { caller, tool, request, signal: context.mcpReq.signal }, wait)
  return action !== 'decline' && action !== 'cancel'
}

/** The question that the client puts to the user; in plain words for a client that opens no links. */
const askToConnect = async (
  { context }: RunningCall,
  wanting: Wanting,
  { requestState }: ListenerContext,
): Promise<ToolResult> => {
  // Clients of older revisions are served without a session, so their capabilities are unknown.
  const envelope: Readonly<Record<string, unknown>> = context.mcpReq.envelope ?? {}
  if (!takesUrls(envelope[CLIENT_CAPABILITIES_META_KEY])) return plainly(wanting)
  const { downstream, scopes } = wanting.request
  const state: ConnectState = { deputyConnects: { downstream, ...(scopes === undefined ? {} : { scopes }) } }
  return inputRequired({
    inputRequests: { [CONNECT]: inputRequired.elicitUrl({ message: questionOf(wanting), url: wanting.url }) },
    requestState: await requestState.mint(state, context),
  })
}

/** Runs a tool; a service that the user has to connect first becomes a question to the user. */
const runTool = async (running: RunningCall, listener: ListenerContext): Promise<ToolResult> => {
  const { caller, tool, context, handler } = running
  const requested = requestIn(context.mcpReq.requestState())
  if (requested !== undefined && !(await awaitConnection(running, requested, listener)))
    return failed(`${requested.downstream} was not connected, so ${tool} cannot continue.`)
  const { call, wanting: wantingOf } = createToolCall(listener.gate().deputy, caller, tool, context)
  try {
    return await handler(call)
  } catch (error) {
    const wanting = wantingOf(error)
    if (wanting !== undefined) return askToConnect(running, wanting, listener)
    if (error instanceof DeputyClientError) return refusal(error)
    throw error
  }
}

const builderFor = (caller: Caller, listener: ListenerContext): McpBuilder => ({
  options: {
    requestState: {
      /** The client learns that its state is refused; the reason is for the server's operator. */
      verify: async (state, context) => {
        try {
          return await listener.requestState.verify(state, context)
        } catch (error) {
          listener.gate().report(`A client's requestState was refused (${(error as Error).message}).`)
          throw error
        }
      },
    },
  },
  user: caller.user,
  requestState: listener.requestState,
  tool(server, name, config, handler) {
    const run = (
      context: ServerContext,
      work: (call: ToolCall<ServerContext>) => ToolResult | Promise<ToolResult>,
    ): Promise<ToolResult> =>
      runTool({ caller: callerOf(context.http?.authInfo), tool: name, context, handler: work }, listener)
    const schema: StandardSchemaWithJSON | undefined = config.inputSchema
    const registered =
      schema === undefined
        ? server.registerTool(name, { ...config, inputSchema: undefined }, (context) =>
            run(context, (call) => handler(undefined as never, call)),
          )
        : server.registerTool(name, { ...config, inputSchema: schema }, (input, context) =>
            run(context, (call) => handler(input as never, call)),
          )
    if (!caller.mayCall(name)) registered.remove()
  },
})

/** An MCP server over HTTP, whose users Deputy verifies. @param build makes the server for a request */
export const createMcpListener = (
  options: McpOptions & { readonly requestState?: RequestStateOptions },
  build: (deputy: McpBuilder) => McpServer | Promise<McpServer>,
): McpListener => {
  const listener: ListenerContext = {
    gate: () => gate,
    requestState: createRequestState(options.requestState ?? {}, options.now ?? Date.now),
    wait: options.wait ?? CONNECT_WAIT_MS,
  }
  const onerror = (error: Error): void => {
    gate.report(error.message)
  }
  const handler = createMcpHandler(({ authInfo }) => build(builderFor(callerOf(authInfo), listener)), { onerror })
  const answer = toNodeHandler(handler, { onerror })
  const gate = createGate(options, (request, response, body) => answer(request, response, body))
  return Object.assign(gate.listener, {
    close: async () => {
      await handler.close()
      gate.deputy.close()
    },
  })
}
