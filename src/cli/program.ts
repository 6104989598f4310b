import { Command, CommanderError } from 'commander'
import { DeputyError, forAdmins } from '#errors'
import { fileFailure } from '#foundation/files'
import { packageVersion } from './home.ts'
import { CommandError, exit, shownText, START_DAEMON, type Terminal } from './terminal.ts'
import { unknownCommandIn } from './unknown-command.ts'

type AddCommands = (program: Command, terminal: Terminal) => void

/** Adds the commands of some names. */
interface Group {
  readonly names: readonly string[]
  load(): Promise<AddCommands>
}

/** In the order of `deputy --help`. A group is loaded when one of its commands is called: `deputy revoke` does not pay for `deputy exec`. */
const GROUPS: readonly Group[] = [
  { names: ['init', 'check', 'serve'], load: async () => (await import('./commands/setup.ts')).addSetupCommands },
  {
    names: ['tenant', 'issuer', 'server', 'downstream', 'provider'],
    load: async () => (await import('./commands/registry.ts')).addRegistryCommands,
  },
  {
    names: ['revoke', 'grant', 'user'],
    load: async () => (await import('./commands/revoke.ts')).addRevocationCommands,
  },
  { names: ['client'], load: async () => (await import('./commands/client.ts')).addClientCommands },
  { names: ['mcp'], load: async () => (await import('./commands/mcp.ts')).addMcpCommand },
  { names: ['api'], load: async () => (await import('./commands/api.ts')).addApiCommands },
  { names: ['test'], load: async () => (await import('./commands/test.ts')).addTestCommand },
  { names: ['exec'], load: async () => (await import('./commands/exec.ts')).addExecCommand },
  {
    names: ['aws-credentials'],
    load: async () => (await import('./commands/aws-credentials.ts')).addAwsCredentialsCommand,
  },
  { names: ['lease'], load: async () => (await import('./commands/lease.ts')).addLeaseCommands },
  { names: ['audit', 'explain'], load: async () => (await import('./commands/audit.ts')).addAuditCommands },
  {
    names: ['status', 'reload', 'key', 'policy', 'secret', 'login', 'logout'],
    load: async () => (await import('./commands/operate.ts')).addOperationCommands,
  },
  { names: ['rotation'], load: async () => (await import('./commands/rotation.ts')).addRotationCommands },
  { names: ['dev'], load: async () => (await import('./commands/dev.ts')).addDevCommand },
  {
    names: ['backup', 'restore'],
    load: async () => (await import('./commands/backup.ts')).addBackupCommands,
  },
  { names: ['upgrade'], load: async () => (await import('./commands/upgrade.ts')).addUpgradeCommand },
  { names: ['store'], load: async () => (await import('./commands/store.ts')).addStoreCommands },
]

/** The name of the command in a command line: its first word that is neither an option nor the folder after `--home`. */
export const commandName = (argv: readonly string[]): string | undefined =>
  argv.find((word, at) => !word.startsWith('-') && argv[at - 1] !== '--home')

/** The commands on a terminal. @param argv the command line whose command is needed; absent or without a known command: every command */
export const createProgram = async (terminal: Terminal, argv: readonly string[] = []): Promise<Command> => {
  const name = commandName(argv)
  const group = GROUPS.find(({ names }) => name !== undefined && names.includes(name))
  const program = new Command('deputy')
    .description('Credential broker and token-exchange daemon for MCP servers')
    .version(await packageVersion())
    .option(
      '--home <folder>',
      'configuration folder; default: $DEPUTY_HOME, else the working folder if it has a deputy.yaml, else ~/.deputy',
    )
    .exitOverride()
    .configureOutput({ writeOut: terminal.out, writeErr: terminal.err })
    .showHelpAfterError('(add --help for the options)')
    .addHelpText(
      'after',
      '\nExit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 configuration problem, 4 daemon not reachable, 5 audit chain broken, 6 the named user, issuer or token is unknown, 7 the daemon cannot start at the moment, 8 another daemon uses the name of this node.',
    )
  const isVersion = name === undefined && argv.some((word) => word === '--version' || word === '-V')
  // The version needs no command, and the help of the whole program needs them all.
  const groups = group !== undefined ? [group] : isVersion ? [] : GROUPS
  for (const { load } of groups) (await load())(program, terminal)
  acceptHomeEverywhere(program)
  return program
}

/** Lets `--home` follow the command as well as precede it. */
const acceptHomeEverywhere = (program: Command): void => {
  const visit = (command: Command): void => {
    command.exitOverride().configureOutput(program.configureOutput())
    if (command.commands.length === 0 || command.registeredArguments.length > 0) {
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

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`

/** The command that starts the daemon of the folder that `--home` names. */
const startOf = (home: string | undefined): string =>
  home === undefined ? START_DAEMON : `${START_DAEMON} --home ${home}`

/** Runs a command line. @returns the exit code */
export const run = async (argv: readonly string[], terminal: Terminal): Promise<number> => {
  let program: Command | undefined
  try {
    program = await createProgram(terminal, argv)
    const unknown = unknownCommandIn(program, argv)
    if (unknown !== undefined) {
      terminal.err(`${unknown}\n`)
      return exit.usage
    }
    await program.parseAsync(argv, { from: 'user' })
    return exit.ok
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exit.ok : exit.usage
    if (error instanceof CommandError) {
      if (error.message !== '') terminal.err(`${shownText(error.message)}\n`)
      const next = error.next === START_DAEMON ? startOf(program?.opts<{ home?: string }>().home) : error.next
      if (next !== undefined) terminal.err(`Next: ${shownText(next)}\n`)
      return error.code
    }
    if (error instanceof DeputyError) {
      terminal.err(shownText(`${forAdmins(error)}\nNext: ${error.next}\n`))
      if (error.code === 'start_failed') return exit.start
      if (error.code === 'node_replaced') return exit.replaced
      return error.kind.category === 'config' ? exit.configuration : exit.failed
    }
    const failure = fileFailure(error)
    if (failure !== undefined) {
      terminal.err(shownText(`${sentence(failure.problem)}\nNext: ${failure.fix}\n`))
      return exit.failed
    }
    throw error
  }
}
