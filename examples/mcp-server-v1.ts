/**
 * The server of `mcp-server-v2.ts` for `@modelcontextprotocol/sdk` 1.x (revision 2025-11-25), behind express.
 *
 *     DEPUTY_SOCKET=/etc/deputy/run/deputy.sock PORT=3000 NOTES_API=https://notes.example/api node examples/mcp-server-v1.ts
 */
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import express from 'express'
import { z } from 'zod'
import { createMcpListener } from '../src/sdk/mcp/v1.ts' // in your project: 'deputy-sdk/mcp-v1'

const api = process.env['NOTES_API'] ?? 'https://notes.example/api'

const listener = createMcpListener({}, (deputy) => {
  const server = new McpServer({ name: 'notes', version: '1.0.0' })

  deputy.tool(server, 'whoami', { description: 'Says who you are' }, (_input, { user }) => ({
    content: [{ type: 'text', text: `You are ${user.sub} of ${user.tenant}.` }],
  }))

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
      return { content: notes.slice(0, limit).map((text) => ({ type: 'text' as const, text })) }
    },
  )
  return server
})

const app = express()
app.get('/healthz', (_request, response) => {
  response.json({ status: 'ok' })
})
app.use(listener)
app.listen(Number(process.env['PORT'] ?? 3000), '127.0.0.1', () => {
  process.stdout.write('listening\n')
})
