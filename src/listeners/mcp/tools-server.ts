import {
  CLIENT_CAPABILITIES_META_KEY,
  inputRequired,
  ProtocolError,
  ProtocolErrorCode,
  Server,
  type CallToolResult,
  type InputRequiredResult,
  type ServerContext,
  type Tool,
} from '@modelcontextprotocol/server'
import type { Arguments, ToolAnswer, ToolDescription } from '#openapi'
import {
  CONNECT_WAIT_MS,
  DeputyClientError,
  failed,
  plainly,
  questionOf,
  type RequestState,
  takesUrls,
  untilConnected,
} from '#sdk/hosting'

/** The tools of one caller. */
export interface ToolBackend {
  /** Those that policy lets the caller call. @throws DeputyClientError */
  list(): Promise<readonly ToolDescription[]>
  /** Whether the caller may call a tool; a tool that policy hides is unknown to the caller. */
  has(tool: string): Promise<boolean>
  /** @throws DeputyClientError with Deputy's reason; `interaction_required` has `connectUrl` */
  call(tool: string, args: Arguments, options: CallOptions): Promise<ToolAnswer>
}

export interface CallOptions {
  readonly signal: AbortSignal
  readonly onProgress: (pages: number) => void
}

export interface ToolsServerOptions {
  /** As the registry has the server. */
  readonly info: {
    readonly name: string
    readonly title?: string
    readonly version: string
    readonly instructions?: string
  }
  readonly backend: ToolBackend
  /** Signs what comes back with the answer to a question; undefined where one connection is one user's. */
  readonly requestState?: RequestState
  readonly report: (problem: string) => void
  /** How long a call waits for the user to connect a service (ms). */
  readonly wait?: number
}

/** The name of the question in `inputRequests`. */
const CONNECT = 'connect'

type ToolResult = CallToolResult | InputRequiredResult

/** An answer as a result of `tools/call`. */
const resultOf = ({ isError, structured, content }: ToolAnswer): CallToolResult => ({
  content: content.map((each) => ({ ...each })) as CallToolResult['content'],
  ...(structured === undefined || isError ? {} : { structuredContent: structured }),
  ...(isError ? { isError } : {}),
})

/** A refusal as a result: what happened, what to do, and the id for `deputy explain`. */
const refusalOf = ({ message, next, correlationId }: DeputyClientError): CallToolResult =>
  failed(`${message} ${next}${correlationId === undefined ? '' : ` (${correlationId})`}`.trim())

const isConnect = (state: unknown): boolean => typeof state === 'object' && state !== null && 'deputyConnects' in state

/** How the client answered the question to connect: undefined where none was asked. */
const connectAnswer = (context: ServerContext): 'accept' | 'decline' | 'unknown' | undefined => {
  if (!isConnect(context.mcpReq.requestState())) return undefined
  const answer = context.mcpReq.inputResponses?.[CONNECT]
  const action = typeof answer === 'object' && answer !== null && 'action' in answer ? answer.action : undefined
  if (action === 'accept') return 'accept'
  return action === 'decline' || action === 'cancel' ? 'decline' : 'unknown'
}

/** What a call needs of its server. */
interface CallContext extends ToolsServerOptions {
  readonly server: Server
}

const capabilitiesOf = (server: Server, { mcpReq }: ServerContext): unknown => {
  const envelope: Readonly<Record<string, unknown>> = mcpReq.envelope ?? {}
  return envelope[CLIENT_CAPABILITIES_META_KEY] ?? server.getClientCapabilities()
}

/** The question that the client puts to the user; in plain words for a client that opens no links. */
const askToConnect = async (
  error: DeputyClientError,
  context: ServerContext,
  { server, requestState }: CallContext,
): Promise<ToolResult> => {
  const url = error.connectUrl!
  if (!takesUrls(capabilitiesOf(server, context))) return plainly({ error, url })
  const state = { deputyConnects: true }
  return inputRequired({
    inputRequests: {
      [CONNECT]: inputRequired.elicitUrl({ message: questionOf({ error }), url }),
    },
    requestState: requestState === undefined ? JSON.stringify(state) : await requestState.mint(state, context),
  })
}

const callTool = async (
  {
    name,
    arguments: args = {},
    _meta,
  }: { name: string; arguments?: Arguments | undefined; _meta?: { progressToken?: unknown } | undefined },
  context: ServerContext,
  options: CallContext,
): Promise<ToolResult> => {
  const { backend, report, wait = CONNECT_WAIT_MS } = options
  const connect = connectAnswer(context)
  if (connect === 'decline') return failed(`The service was not connected, so ${name} cannot continue.`)
  if (!(await backend.has(name))) throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Tool ${name} not found`)
  const { signal } = context.mcpReq
  const token = _meta?.progressToken
  const onProgress = (progress: number): void => {
    if (typeof token !== 'string' && typeof token !== 'number') return
    context.mcpReq
      .notify({ method: 'notifications/progress', params: { progressToken: token, progress } })
      .catch((error: unknown) => {
        report(`A progress notification could not be sent (${(error as Error).message}).`)
      })
  }
  const work = (): Promise<ToolAnswer> => backend.call(name, args, { signal, onProgress })
  try {
    const isWorthWaiting = ({ connectUrl }: DeputyClientError): boolean => connectUrl !== undefined
    return resultOf(connect === 'accept' ? await untilConnected(work, { wait, signal, isWorthWaiting }) : await work())
  } catch (error) {
    if (!(error instanceof DeputyClientError)) throw error
    return error.connectUrl === undefined ? refusalOf(error) : await askToConnect(error, context, options)
  }
}

/** @throws ProtocolError that says what to do */
const listTools = async (backend: ToolBackend): Promise<Tool[]> => {
  try {
    return [...(await backend.list())] as unknown as Tool[]
  } catch (error) {
    if (!(error instanceof DeputyClientError)) throw error
    throw new ProtocolError(ProtocolErrorCode.InternalError, `${error.message} ${error.next}`.trim())
  }
}

/** An MCP server that has the tools of one caller; for one request over HTTP, or for one connection over stdio. */
export const createToolsServer = (options: ToolsServerOptions): Server => {
  const { info, backend, requestState, report } = options
  const { instructions, ...implementation } = info
  const server: Server = new Server(implementation, {
    capabilities: { tools: { listChanged: true } },
    ...(instructions === undefined ? {} : { instructions }),
    requestState: {
      /** The client learns that its state is refused; the reason is for the operator. */
      async verify(state, context) {
        try {
          return requestState === undefined ? (JSON.parse(state) as unknown) : await requestState.verify(state, context)
        } catch (error) {
          report(`A client's requestState was refused (${(error as Error).message}).`)
          throw error
        }
      },
    },
  })
  server.setRequestHandler('tools/list', async () => ({ tools: await listTools(backend) }))
  server.setRequestHandler('tools/call', (request, context) =>
    callTool(request.params, context, { ...options, server }),
  )
  return server
}
