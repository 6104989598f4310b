import { isatty } from 'node:tty'
import type { Command } from 'commander'
import { durationSchema } from '#config'
import { runExec } from '../exec/exec.ts'
import { findHome, localSocket } from '../home.ts'
import { CommandError, exit, type Terminal } from '../terminal.ts'

const milliseconds = (text: string, option: string): number => {
  const parsed = durationSchema.safeParse(text)
  if (!parsed.success) throw new CommandError(exit.usage, `${option} is not a length of time.`, `${option} 10s`)
  return parsed.data
}

/** `exec`: an unmodified stdio server, with credentials. */
export const addExecCommand = (program: Command, terminal: Terminal): void => {
  program
    .command('exec')
    .description(
      'run an unmodified stdio MCP server with the credentials that its file maps (`exec` in servers/ID.yaml)',
    )
    .argument('<command...>', 'the command, after --')
    .requiredOption('--server <id>', 'id of the registered server')
    .option('--stop-timeout <time>', 'time to end after SIGTERM, before SIGKILL', '10s')
    .option('--reconnect-timeout <time>', 'time to wait for the daemon while it is unreachable', '60s')
    .option('--allow-disk', 'allow files with credentials on disk when there is no folder in memory')
    .addHelpText(
      'after',
      `
Examples:
  deputy exec --server notes -- npx -y @example/notes-mcp
  deputy exec --server reports -- npx -y @modelcontextprotocol/server-postgres 'postgresql:///orders?host=/run/deputy/pg'

Standard input, output and error belong to the command. Exit codes: the command's own, 128+n when signal n ended it, 127 when
it was not found, 126 when it cannot be run, 4 when the daemon is not reachable, 1 when the daemon refused.`,
    )
    .action(
      async (
        [name = '', ...args]: string[],
        options: { server: string; stopTimeout: string; reconnectTimeout: string; allowDisk?: boolean },
      ) => {
        const code = await runExec({
          socketPath: await localSocket(findHome(program.opts<{ home?: string }>().home, terminal), terminal),
          server: options.server,
          command: [name, ...args],
          environment: terminal.environment,
          workingFolder: terminal.workingFolder,
          allowDisk: options.allowDisk === true,
          isTerminal: isatty(0),
          stopTimeout: milliseconds(options.stopTimeout, '--stop-timeout'),
          reconnectTimeout: milliseconds(options.reconnectTimeout, '--reconnect-timeout'),
          notify: (text) => {
            terminal.err(`deputy exec: ${text}\n`)
          },
        })
        if (code !== exit.ok) throw new CommandError(code, '')
      },
    )
}
