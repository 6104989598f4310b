import { randomUUID } from 'node:crypto'
import type { McpServer, RegisteredTool } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js'
import type { z } from 'zod'
import { DeputyClientError } from '../error.ts'
import { callerOf, createToolCall, type Caller, type ToolCall } from './caller.ts'
import { failed, plainly, refusal, takesUrls } from './connection.ts'
import type { Gate } from './gate.ts'
import type { Session } from './sessions.ts'
import { ConnectElicitation } from './v1-elicitation.ts'
import type { AsksBy, Extra, McpBuilder } from './v1-types.ts'

export interface McpSession extends Session {
  readonly server: McpServer
  readonly transport: StreamableHTTPServerTransport
  readonly tools: ReadonlyMap<string, GovernedTool>
}

/** A tool that is registered while policy lets the user call it. */
export interface GovernedTool {
  readonly register: () => RegisteredTool
  registered: RegisteredTool | undefined
}

/** What sessions share. */
export interface SessionContext {
  readonly gate: () => Pick<Gate, 'deputy' | 'report'>
  readonly build: (deputy: McpBuilder) => McpServer | Promise<McpServer>
  readonly asksBy: AsksBy
  /** How long a call waits for the user to connect a service (ms). */
  readonly wait: number
  /** Called when the client ends the session. */
  readonly forget: (id: string) => void
}

/** A call of a tool. */
interface RunningCall {
  readonly server: McpServer
  readonly tool: string
  readonly extra: Extra
  readonly handler: (call: ToolCall<Extra>) => CallToolResult | Promise<CallToolResult>
}

/** Services that one call may ask its user to connect, one after the other. */
const MAX_QUESTIONS = 5

/** Registers and removes tools as policy lets the caller call them; the client is notified that its list has changed. */
export const govern = (tools: ReadonlyMap<string, GovernedTool>, caller: Caller): void => {
  for (const [name, tool] of tools) {
    if (caller.mayCall(name)) tool.registered ??= tool.register()
    else {
      tool.registered?.remove()
      tool.registered = undefined
    }
  }
}

/** Runs a tool; a service that the user has to connect first becomes a question to the user. */
const runTool = async (
  running: RunningCall,
  elicitation: ConnectElicitation,
  context: Pick<SessionContext, 'gate' | 'asksBy'>,
  questionsLeft = MAX_QUESTIONS,
): Promise<CallToolResult> => {
  const { server, tool, extra, handler } = running
  const caller = callerOf(extra.authInfo)
  if (!caller.mayCall(tool)) return failed(`Tool ${tool} not found`)
  const { call, wanting: wantingOf } = createToolCall(context.gate().deputy, caller, tool, extra)
  try {
    return await handler(call)
  } catch (error) {
    const wanting = wantingOf(error)
    if (wanting === undefined) {
      if (error instanceof DeputyClientError) return refusal(error)
      throw error
    }
    if (!takesUrls(server.server.getClientCapabilities())) return plainly(wanting)
    const question = { caller, server, tool, wanting }
    const outcome =
      context.asksBy === 'request' && questionsLeft > 0 ? await elicitation.asRequest(question, extra) : 'unanswered'
    if (outcome === 'connected') return runTool(running, elicitation, context, questionsLeft - 1)
    if (outcome === 'declined')
      return failed(`${wanting.request.downstream} was not connected, so ${tool} cannot continue.`)
    throw elicitation.asError(question)
  }
}

/** The builder of a session, which keeps the tools that it registers. */
const createBuilder = (
  caller: Caller,
  tools: Map<string, GovernedTool>,
  run: (running: RunningCall) => Promise<CallToolResult>,
): McpBuilder => {
  const { token: _, ...user } = caller.user
  return {
    user,
    tool(server, name, config, handler) {
      const schema: z.ZodType | undefined = config.inputSchema
      const register = (): RegisteredTool =>
        schema === undefined
          ? server.registerTool(name, { ...config, inputSchema: undefined }, (extra: Extra) =>
              run({ server, tool: name, extra, handler: (call) => handler(undefined as never, call) }),
            )
          : server.registerTool(name, { ...config, inputSchema: schema }, (input: unknown, extra: Extra) =>
              run({ server, tool: name, extra, handler: (call) => handler(input as never, call) }),
            )
      tools.set(name, { register, registered: register() })
    },
  }
}

/** Opens a session for a user: builds its server, with the tools that policy lets the user call. */
export const openSession = async (caller: Caller, context: SessionContext): Promise<McpSession> => {
  const id = randomUUID()
  const ended = new AbortController()
  const tools = new Map<string, GovernedTool>()
  const elicitation = new ConnectElicitation(context.gate, { wait: context.wait, ended: ended.signal })
  const server = await context.build(createBuilder(caller, tools, (running) => runTool(running, elicitation, context)))
  govern(tools, caller)
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: () => id,
    onsessionclosed: () => {
      ended.abort()
      context.forget(id)
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
