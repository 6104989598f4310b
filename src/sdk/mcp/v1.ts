/**
 * `deputy-sdk/mcp-v1`: as `deputy-sdk/mcp`, for `@modelcontextprotocol/sdk` 1.x (revision 2025-11-25 and older, with
 * sessions).
 *
 *     const listener = createMcpListener({}, (deputy) => {
 *       const server = new McpServer({ name: 'notes', version: '1.0.0' })
 *       deputy.tool(server, 'list_notes', { description: 'Lists your notes' }, async (_input, { fetch }) => { … })
 *       return server
 *     })
 */
import type { ServerResponse } from 'node:http'
import type { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { isInitializeRequest } from '@modelcontextprotocol/sdk/types.js'
import { DeputyClientError } from '../error.ts'
import type { VouchedRequest } from './authorize.ts'
import type { Caller, CredentialRequest, McpUser, ToolCall, Wish } from './caller.ts'
import { CONNECT_WAIT_MS } from './connection.ts'
import { createGate, type McpListener, type McpOptions } from './gate.ts'
import { sendRpcError } from './respond.ts'
import { createSessions } from './sessions.ts'
import { govern, openSession, type McpSession, type SessionContext } from './v1-session.ts'
import type { AsksBy, Extra, McpBuilder, McpV1Options, ToolConfig } from './v1-types.ts'

export {
  DeputyClientError,
  type AsksBy,
  type CredentialRequest,
  type Extra,
  type McpBuilder,
  type McpListener,
  type McpOptions,
  type McpUser,
  type McpV1Options,
  type ToolCall,
  type ToolConfig,
  type Wish,
}

type Sessions = ReturnType<typeof createSessions<McpSession>>

/** The session of a request, opened by its first one; undefined when the request was refused. */
const sessionOf = async (
  { request, response, body }: { request: VouchedRequest; response: ServerResponse; body: unknown },
  caller: Caller,
  sessions: Sessions,
  context: SessionContext,
): Promise<McpSession | undefined> => {
  const { 'mcp-session-id': id } = request.headers
  if (id !== undefined) {
    const session = sessions.use(String(id), caller.principal, response)
    if (session === undefined) sendRpcError(response, 404, -32_001, 'Session not found')
    return session
  }
  if (!isInitializeRequest(body)) {
    sendRpcError(response, 400, -32_000, 'Bad Request: initialize first, then send Mcp-Session-Id.')
    return undefined
  }
  if (!sessions.hasRoom()) {
    sendRpcError(response, 503, -32_000, 'There are too many sessions.')
    return undefined
  }
  const session = await openSession(caller, context)
  sessions.add(session)
  return sessions.use(session.id, caller.principal, response)
}

/** An MCP server over HTTP, whose users Deputy verifies. @param build makes the server of a session */
export const createMcpListener = (
  options: McpV1Options,
  build: (deputy: McpBuilder) => McpServer | Promise<McpServer>,
): McpListener => {
  const sessions = createSessions<McpSession>(options.now ?? Date.now)
  const context: SessionContext = {
    gate: () => gate,
    build,
    asksBy: options.asksBy ?? 'error',
    wait: options.wait ?? CONNECT_WAIT_MS,
    forget: sessions.forget,
  }
  const gate = createGate(options, async (request, response, body, caller) => {
    const session = await sessionOf({ request, response, body }, caller, sessions, context)
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
