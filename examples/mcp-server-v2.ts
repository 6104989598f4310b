/**
 * An MCP server for `@modelcontextprotocol/server` 2.x (revision 2026-07-28) that acts for its users at a notes service.
 * Start it as the Unix user that its file in Deputy names, with DEPUTY_SOCKET set:
 *
 *     DEPUTY_SOCKET=/etc/deputy/run/deputy.sock PORT=3000 NOTES_API=https://notes.example/api node examples/mcp-server-v2.ts
 */
import { createServer } from 'node:http'
import { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { createMcpListener } from '../src/sdk/mcp/index.ts' // in your project: 'deputy-sdk/mcp'

const api = process.env['NOTES_API'] ?? 'https://notes.example/api'

const listener = createMcpListener({}, (deputy) => {
  const server = new McpServer({ name: 'notes', version: '1.0.0' }, deputy.options)

  deputy.tool(server, 'whoami', { description: 'Says who you are' }, (_input, { user }) => ({
    content: [{ type: 'text', text: `You are ${user.sub} of ${user.tenant}.` }],
  }))

  // The credential is for this user, this tool and this service. If the user has not connected it yet, the client is told how.
  deputy.tool(
    server,
    'list_notes',
    {
      description: 'Lists your notes',
      inputSchema: z.object({ limit: z.int().min(1).max(100).default(10) }),
    },
    async ({ limit }, { fetch }) => {
      const response = await fetch('notes-api', { scopes: ['notes:read'] })(`${api}/notes`)
      if (!response.ok)
        return { content: [{ type: 'text', text: `The notes service answered ${response.status}.` }], isError: true }
      const { notes } = z.object({ notes: z.array(z.string()) }).parse(await response.json())
      return { content: notes.slice(0, limit).map((text) => ({ type: 'text', text })) }
    },
  )
  return server
})

createServer(listener).listen(Number(process.env['PORT'] ?? 3000), '127.0.0.1', () => {
  process.stdout.write('listening\n')
})
