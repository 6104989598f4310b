/**
 * The MCP servers that Deputy hosts: the tools of APIs, over Streamable HTTP behind the gate of the middleware. A
 * caller is verified by the gate, and a call takes the line of `flows/tool-call`. `tools-server.ts` speaks MCP; the
 * command `deputy mcp` uses it for stdio.
 */
export { createHostedServers, type HostedServers } from './listener.ts'
export { createToolsServer, type ToolBackend } from './tools-server.ts'
export { DeputyClientError, errorOf } from '#sdk/hosting'
