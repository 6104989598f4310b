/** The local API: MCP servers obtain credentials from it over a Unix socket or a loopback port. */
export type { ExecProxy } from './exec.ts'
export { traceparentOf } from './endpoint.ts'
export { createLocalApi } from './local-api.ts'
export { readProof } from './token.ts'
export { parseScopes, parseTokenType, parseTool } from './token-request.ts'
