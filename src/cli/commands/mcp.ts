import type { Server } from '@modelcontextprotocol/server'
import type { Command } from 'commander'
import type { ToolBackend } from '#listeners/mcp'
import { createContext, type CommandContext } from '../context.ts'
import { localSocket } from '../home.ts'
import { createSocketBackend } from '../hosted-backend.ts'
import type { Terminal } from '../terminal.ts'

/** How often the daemon is asked whether the tools have changed (ms). */
const LOOK_INTERVAL_MS = 15_000

/** Tells the client that its tools have changed, where they have. */
const tellChange = async (served: Server, shown: string, { list }: Pick<ToolBackend, 'list'>): Promise<void> => {
  if (JSON.stringify(await list()) !== shown) await served.sendToolListChanged()
}

/** `mcp`: standard input and output are the connection, so that nothing else is printed there. */
const serve = async (server: string, { terminal, home }: CommandContext): Promise<void> => {
  const backend = createSocketBackend(await localSocket(home(), terminal), server)
  const [{ serveStdio }, { createToolsServer }] = await Promise.all([
    import('@modelcontextprotocol/server/stdio'),
    import('#listeners/mcp'),
  ])
  const report = (problem: string): void => {
    terminal.err(`deputy: ${problem}\n`)
  }
  let shown: string | undefined
  const watched = {
    ...backend,
    list: async () => {
      const tools = await backend.list()
      shown = JSON.stringify(tools)
      return tools
    },
  }
  let served: Server | undefined
  const look = setInterval(() => {
    if (shown === undefined || served === undefined) return
    tellChange(served, shown, watched).catch(() => {
      // The next call of a tool says why the daemon does not answer.
    })
  }, LOOK_INTERVAL_MS)
  look.unref()
  await new Promise<void>((resolve) => {
    const handle = serveStdio(
      () => (served = createToolsServer({ info: { name: server, version: '1' }, backend: watched, report })),
      {
        onerror: (error) => {
          report(error.message)
        },
      },
    )
    process.stdin.once('end', () => {
      clearInterval(look)
      handle.close().then(resolve, resolve)
    })
  })
}

export const addMcpCommand = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  program
    .command('mcp')
    .description('serve the tools of a server that Deputy hosts to an MCP client on this machine, over stdio')
    .argument('<server>', 'id of a server whose file names `apis`')
    .addHelpText(
      'after',
      '\nThe client starts this command. Its user signs in with `deputy login`, and the file of the server has `login_session: true`.\n\nExample:\n  { "command": "deputy", "args": ["mcp", "billing-tools"] }',
    )
    .action((server: string) => serve(server, context))
}
