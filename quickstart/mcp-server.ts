/**
 * A real MCP server over Streamable HTTP, as a process of its own. Its one tool reads the user's notes. It holds no
 * key of the notes service, and knows nothing of OAuth: it asks Deputy for a credential, for this user, in this call.
 * Usage: node mcp-server.ts CONFIG.json
 */
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { McpServer } from '@modelcontextprotocol/server'
import type { ClientKey } from '../src/sdk/index.ts'
import { createMcpListener } from '../src/sdk/mcp/index.ts'

interface Config {
  server: string
  port: number
  socket: string
  issuer: string
  key: ClientKey['key']
  api: string
}

const config = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as Config

const listener = createMcpListener(
  { socket: config.socket, clientId: config.server, clientKey: { key: config.key, issuer: config.issuer } },
  (deputy) => {
    const server = new McpServer({ name: config.server, version: '1.0.0' }, deputy.options)
    deputy.tool(
      server,
      'list_notes',
      { description: 'Lists the notes of the user who calls' },
      async (_input, { fetch }) => {
        const response = await fetch('notes-api')(`${config.api}/notes`)
        return { content: [{ type: 'text', text: await response.text() }], isError: !response.ok }
      },
    )
    return server
  },
)
createServer(listener).listen(config.port, '127.0.0.1', () => {
  process.stdout.write('listening\n')
})
