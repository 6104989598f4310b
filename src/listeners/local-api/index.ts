/** The local API: MCP servers ask it for credentials over a Unix socket or a loopback port. */
export type { ExecProxy } from './exec.ts'
export { createLocalApi, traceparentOf } from './local-api.ts'
export { parseScopes, parseTokenType, parseTool } from './token-request.ts'
