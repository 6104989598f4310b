import { Command, CommanderError } from 'commander'
import { DeputyError } from '../errors.ts'
import { addAuditCommands } from './commands/audit.ts'
import { addAwsCredentialsCommand } from './commands/aws-credentials.ts'
import { addExecCommand } from './commands/exec.ts'
import { addLeaseCommands } from './commands/lease.ts'
import { addOperationCommands } from './commands/operate.ts'
import { addRegistryCommands } from './commands/registry.ts'
import { addRevocationCommands } from './commands/revoke.ts'
import { addStoreCommands } from './commands/store.ts'
import { addRotationCommands } from './commands/rotation.ts'
import { addSetupCommands } from './commands/setup.ts'
import { packageVersion } from './home.ts'
import { CommandError, exit, type Terminal } from './terminal.ts'

/** Every command, on a terminal. */
export const createProgram = async (terminal: Terminal): Promise<Command> => {
  const program = new Command('deputy')
    .description('Credential broker and token-exchange daemon for MCP servers')
    .version(await packageVersion())
    .option('--home <folder>', 'configuration folder; default: $DEPUTY_HOME, else this folder, else ~/.deputy')
    .exitOverride()
    .configureOutput({ writeOut: terminal.out, writeErr: terminal.err })
    .showHelpAfterError('(add --help for the options)')
    .addHelpText(
      'after',
      '\nExit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 configuration problem, 4 daemon not reachable, 5 audit chain broken.',
    )
  addSetupCommands(program, terminal)
  addRegistryCommands(program, terminal)
  addRevocationCommands(program, terminal)
  addExecCommand(program, terminal)
  addAwsCredentialsCommand(program, terminal)
  addLeaseCommands(program, terminal)
  addAuditCommands(program, terminal)
  addOperationCommands(program, terminal)
  addRotationCommands(program, terminal)
  addStoreCommands(program, terminal)
  acceptHomeEverywhere(program)
  return program
}

/** `deputy check --home X` and `deputy --home X check` are the same to people. */
const acceptHomeEverywhere = (program: Command): void => {
  const visit = (command: Command): void => {
    command.exitOverride().configureOutput(program.configureOutput())
    if (command.commands.length === 0) {
      command.option('--home <folder>', 'configuration folder')
      command.hook('preAction', (_, acting) => {
        const { home } = acting.opts<{ home?: string }>()
        if (home !== undefined) program.setOptionValue('home', home)
      })
    }
    command.commands.forEach(visit)
  }
  program.commands.forEach(visit)
}

/** Runs a command line. @returns the exit code */
export const run = async (argv: readonly string[], terminal: Terminal): Promise<number> => {
  try {
    await (await createProgram(terminal)).parseAsync(argv, { from: 'user' })
    return exit.ok
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exit.ok : exit.usage
    if (error instanceof CommandError) {
      if (error.message !== '') terminal.err(`${error.message}\n`)
      if (error.next !== undefined) terminal.err(`Next: ${error.next}\n`)
      return error.code
    }
    if (error instanceof DeputyError) {
      terminal.err(`${error.message}\nNext: ${error.next}\n`)
      return error.kind.category === 'config' ? exit.configuration : exit.failed
    }
    throw error
  }
}
