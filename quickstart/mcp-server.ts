/**
 * A real MCP server over Streamable HTTP, as a process of its own. Its one tool reads the user's notes. It holds no
 * key of the notes service: it asks Deputy for one, for this user, in this call.
 * Usage: node mcp-server.ts CONFIG.json
 */
import { readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import { localhostHostValidation, toNodeHandler } from '@modelcontextprotocol/node'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import type { JWK } from 'jose'
import { exchangeToken } from './deputy-client.ts'

interface Config { server: string; port: number; socket: string; issuer: string; key: JWK; api: string }

const config = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as Config

const text = (value: object, isError = false) => ({ content: [{ type: 'text' as const, text: JSON.stringify(value) }], isError })

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: config.server, version: '1.0.0' })
  server.registerTool('list_notes', { description: 'Lists the notes of the user who calls' }, async (context) => {
    const userToken = context.http?.authInfo?.token
    if (userToken === undefined) return text({ error: 'sign in first' }, true)
    const { status, body } = await exchangeToken({ ...config, socket: config.socket }, { userToken, downstream: 'notes-api', scope: 'notes:read', tool: 'list_notes' })
    if (status !== 200) return text(body, true)
    const response = await fetch(`${config.api}/notes`, { headers: { authorization: `Bearer ${String(body['access_token'])}` } })
    return response.ok ? text({ notes: await response.json() }) : text({ error: `the notes service answered ${response.status}` }, true)
  })
  return server
})

const answer = toNodeHandler(handler)
const validateHost = localhostHostValidation()
createServer((request, response) => {
  if (!validateHost(request, response)) return
  const token = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
  if (token === undefined) { response.writeHead(401, { 'WWW-Authenticate': 'Bearer' }).end(); return }
  // The token is Deputy's to verify: it says whether it is this server's, and for whom.
  void answer(Object.assign(request as IncomingMessage & { method: string; url: string }, { auth: { token, clientId: 'mcp-client', scopes: [] } }), response)
}).listen(config.port, '127.0.0.1', () => { process.stdout.write('listening\n') })
