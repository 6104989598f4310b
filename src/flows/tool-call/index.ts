/**
 * The line of a tool call: a tool of an API is called with the credential of the user who calls. The listener of MCP
 * clients and the local API call it with a caller that they have verified; the exchange decides, and nothing is sent
 * before its record is durable.
 */
export { createToolCalls, type ToolCalls } from './call.ts'
export type { OnBehalfOf, ToolCallRequest } from './context.ts'
