import type { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import type { RequestHandlerExtra } from '@modelcontextprotocol/sdk/shared/protocol.js'
import type {
  CallToolResult,
  ServerNotification,
  ServerRequest,
  ToolAnnotations,
} from '@modelcontextprotocol/sdk/types.js'
import type { z } from 'zod'
import type { McpUser, ToolCall } from './caller.ts'
import type { McpOptions } from './gate.ts'

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

/**
 * How a client is asked to open a link: `error` answers the call with error -32042, and the client calls again;
 * `request` sends `elicitation/create` while the call runs, and runs the tool once more when the user has connected.
 * Clients that show no -32042, such as the official one for Python, take the second.
 * @see https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation
 */
export type AsksBy = 'error' | 'request'

export interface McpV1Options extends McpOptions {
  /** Default `error`. */
  readonly asksBy?: AsksBy
}
