import type { ServerResponse } from 'node:http'

export const sendJson = (
  response: ServerResponse,
  status: number,
  body: object,
  headers: Readonly<Record<string, string | string[]>> = {},
): void => {
  response
    .writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store', ...headers })
    .end(JSON.stringify(body))
}

/** An error of JSON-RPC that answers no message in particular. */
export const sendRpcError = (response: ServerResponse, status: number, code: number, message: string): void => {
  sendJson(response, status, { jsonrpc: '2.0', error: { code, message }, id: null })
}
