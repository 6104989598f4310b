/** The MCP server of a world to which the author gives none: what a server looks like behind the middleware of the SDK. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { createMcpListener } from '#sdk/mcp'
import { DOWNSTREAM, LOOPBACK } from './facts.ts'

const said = async (response: Response) => ({
  content: [{ type: 'text' as const, text: await response.text() }],
  isError: !response.ok,
})

/** @param options.api base address of the notes service's API. @throws Error of listen(2) */
export const startExampleServer = async (options: {
  readonly socket: string
  readonly port: number
  readonly api: string
  readonly report: (problem: string) => void
}): Promise<{ close(): Promise<void> }> => {
  const { socket, port, api, report } = options
  const listener = createMcpListener({ socket, report }, (deputy) => {
    const server = new McpServer({ name: 'notes', version: '1.0.0' }, deputy.options)
    deputy.tool(server, 'list_notes', { description: 'Lists your notes' }, async (_input, { fetch }) =>
      said(await fetch(DOWNSTREAM, { scopes: ['notes:read'] })(`${api}/notes`)),
    )
    deputy.tool(
      server,
      'add_note',
      { description: 'Adds a note', inputSchema: z.object({ text: z.string().min(1).max(1000) }) },
      async (note, { fetch }) =>
        said(
          await fetch(DOWNSTREAM, { scopes: ['notes:write'] })(`${api}/notes`, {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify(note),
          }),
        ),
    )
    return server
  })
  const server = createServer(listener).listen(port, LOOPBACK)
  await once(server, 'listening')
  return {
    async close() {
      server.close()
      server.closeAllConnections()
      await listener.close()
    },
  }
}
