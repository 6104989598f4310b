import { statSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isatty } from 'node:tty'
import type { Command } from 'commander'
import { z } from 'zod'
import { createSystemRandom, systemClock } from '#clock'
import type { DevServer, DevWorld } from '#dev'
import { recordViewSchema } from '#foundation/audit'
import { clientText, worldText, worldView } from '../dev-views.ts'
import { packageVersion, shipped } from '../home.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit, shownText, type Terminal } from '../terminal.ts'

interface DevOptions {
  readonly port?: number
  readonly server?: string
  readonly stdio?: boolean
  readonly client?: boolean
  readonly explain?: boolean
  readonly json?: boolean
}

const LAST_FIRST_PORT = 65_531
const POLL_INTERVAL_MS = 250
const PAGE_ROWS = 1000
const recordsSchema = z.array(recordViewSchema)

const portArgument = (text: string): number => {
  const port = Number(text)
  if (!/^\d+$/.test(text) || port < 1 || port > LAST_FIRST_PORT)
    throw new CommandError(exit.usage, `--port ${text} is not a port.`, `--port takes 1 to ${LAST_FIRST_PORT}.`)
  return port
}

/** What the options and the words after -- say about the author's server. @throws CommandError */
const serverOf = ({ server: url, stdio }: DevOptions, command: readonly string[]): DevServer => {
  if (url !== undefined && (command.length > 0 || stdio === true))
    throw new CommandError(
      exit.usage,
      '--server is for a server that you run yourself, without a command.',
      'Give either --server URL, or the command after --.',
    )
  if (stdio === true && command.length === 0)
    throw new CommandError(exit.usage, '--stdio needs the command of the server.', 'deputy dev --stdio -- COMMAND')
  if (stdio === true) return { kind: 'stdio' }
  if (url !== undefined) {
    const parsed = URL.parse(url)
    // A URL parser drops line feeds and tabs, and the text goes into a file.
    if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.hash !== '' || !/^[\x21-\x7e]+$/.test(url))
      throw new CommandError(exit.usage, `--server ${url} is no http address.`, '--server http://127.0.0.1:3000/mcp')
    return { kind: 'http', url }
  }
  return command.length > 0 ? { kind: 'http', command } : { kind: 'example' }
}

/** Errors of the world as errors of a command. */
const asCommandError = async <T>(work: Promise<T>): Promise<T> => {
  const { DevError } = await import('#dev')
  return work.catch((error: unknown) => {
    throw error instanceof DevError ? new CommandError(exit.failed, error.message, error.next) : error
  })
}

/** Tells each exchange as the audit log gets it, until the signal. */
const explainExchanges = async (world: DevWorld, terminal: Terminal, signal: AbortSignal): Promise<void> => {
  const { describeExchange, isExchange } = await import('#dev')
  const isColoured = isatty(1) && terminal.environment['NO_COLOR'] === undefined
  const read = (query: string) => callDaemon(world.admin, { path: `/audit?${query}` }, recordsSchema)
  let last = (await read('limit=1&last=true&after=0')).at(-1)?.seq ?? 0
  while (!signal.aborted) {
    for (const record of await read(`limit=${PAGE_ROWS}&after=${last}`)) {
      last = record.seq
      if (!isExchange(record)) continue
      const { text, isRefused } = describeExchange(record)
      const shown = shownText(text)
      terminal.out(`${isColoured ? `\u001b[${isRefused ? '31' : '32'}m${shown}\u001b[0m` : shown}\n`)
    }
    await sleep(POLL_INTERVAL_MS, undefined, { signal }).catch(() => undefined)
  }
}

/** Runs the author's command. It may end: the world goes on. */
const runServer = async (world: DevWorld, terminal: Terminal, signal: AbortSignal): Promise<void> => {
  const command = await asCommandError(world.startServer())
  void command?.ended.then((how) => {
    // The world ends it with itself.
    if (signal.aborted) return
    terminal.err(
      `deputy dev: your server has ended (${typeof how === 'number' ? `exit code ${how}` : how}). The rest goes on; Ctrl-C ends it.\n`,
    )
  })
}

/** The command with whole paths in place of files of the working folder: MCP clients start it in another folder. */
export const fromAnywhere = (command: readonly string[], workingFolder: string): string[] =>
  command.map((word, index) => {
    // A first word without a slash is looked up in PATH.
    if (index === 0 && !word.includes('/')) return word
    const path = resolve(workingFolder, word)
    return statSync(path, { throwIfNoEntry: false })?.isFile() === true ? path : word
  })

const stopSignal = (): Promise<unknown> =>
  new Promise((resolve) => {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, resolve)
  })

const runDev = async (
  terminal: Terminal,
  { home, command, options }: { home: string | undefined; command: readonly string[]; options: DevOptions },
): Promise<void> => {
  const server = serverOf(options, command)
  const stopped = stopSignal()
  const { clientSnippets, DOWNSTREAM, SERVER, startDevWorld, USERS } = await import('#dev')
  const { consoleToLog } = await import('#foundation/telemetry')
  // Libraries write to the console, for example that oidc-provider keeps its records in memory.
  consoleToLog({ debug() {}, info() {}, warn() {}, error() {} })
  const world = await asCommandError(
    startDevWorld({
      home,
      ...(options.port === undefined ? {} : { firstPort: options.port }),
      server,
      shipped,
      version: await packageVersion(),
      environment: terminal.environment,
      workingFolder: terminal.workingFolder,
      clock: systemClock,
      random: createSystemRandom(),
      tell: (line) => {
        terminal.err(shownText(`deputy: ${line}\n`))
      },
      places: { temporary: tmpdir(), forbidden: [join(homedir(), '.deputy'), '/etc/deputy'] },
      uid: process.getuid!(),
    }),
  )
  const explaining = new AbortController()
  try {
    // Before the world is shown, so that a command that does not exist is all that is said.
    await runServer(world, terminal, explaining.signal)
    const token = await world.token('alice')
    const view = worldView(world, token, {
      environment: terminal.environment,
      program: { node: process.execPath, file: process.argv[1]! },
      users: USERS,
      server: SERVER,
      downstream: DOWNSTREAM,
    })
    terminal.out(
      options.json === true
        ? `${JSON.stringify(view)}\n`
        : shownText(`${worldText(view, world, options.client === true)}\n`),
    )
    if (options.client === true && options.json !== true) {
      const how =
        server.kind === 'stdio'
          ? {
              command: fromAnywhere(command, terminal.workingFolder),
              env: { DEPUTY_SOCKET: world.socket, NOTES_API: world.api },
            }
          : { url: world.resource }
      terminal.out(shownText(`${clientText(clientSnippets(SERVER, how))}\n`))
    }
    const told =
      options.explain === true ? explainExchanges(world, terminal, explaining.signal) : Promise.resolve(undefined)
    await Promise.race([stopped, told.then(() => stopped)])
    explaining.abort()
    await told
  } finally {
    explaining.abort()
    await world.stop()
  }
  if (options.json !== true)
    terminal.err(
      world.isTemporary
        ? '\nEverything has ended; the folder is removed.\n'
        : `\nEverything has ended; ${world.home} is kept.\n`,
    )
}

/** `dev token`. */
const addToken = (dev: Command, program: Command, terminal: Terminal): void => {
  dev
    .command('token')
    .description('print a token of a user for your server, as the identity provider of the running world issues it')
    .option('--user <name>', 'alice, bob or carol', 'alice')
    .addHelpText('after', '\nExample:\n  TOKEN=$(deputy dev token --user bob)')
    .action(async ({ user }: { user: string }) => {
      const { findWorld, mintUserToken, readState } = await import('#dev')
      const named = program.opts<{ home?: string }>().home ?? terminal.environment['DEPUTY_HOME']
      const home = await asCommandError(
        findWorld(
          named === undefined ? undefined : resolve(terminal.workingFolder, named),
          tmpdir(),
          process.getuid!(),
        ),
      )
      const state = await readState(home)
      terminal.out(`${await asCommandError(mintUserToken(state!, user))}\n`)
    })
}

/** `dev`. */
export const addDevCommand = (program: Command, terminal: Terminal): void => {
  const dev = program
    .command('dev')
    .description(
      'run a whole world for the author of an MCP server: users, a service with OAuth, policies and the daemon',
    )
    .argument('[command...]', 'your MCP server over HTTP, after --; it listens on $PORT')
    .option('--server <url>', 'the address of an MCP server that you run yourself')
    .option('--stdio', 'the command is a stdio server: print how MCP clients start it')
    .option('--port <first>', 'the first of five ports in a row; default: free ports', portArgument)
    .option('--client', 'print the configuration of MCP clients')
    .option('--explain', 'tell each exchange in one line as it happens')
    .option('--json', 'print the world as one line of JSON')
    .addHelpText(
      'after',
      `
Without a server of yours an example runs. --home FOLDER keeps the world: the next start has the same users, ports and grants.

Examples:
  deputy dev
  deputy dev --explain -- node server.js
  deputy dev --server http://127.0.0.1:3000/mcp --client
  deputy dev token --user bob`,
    )
    .action(async (command: string[], options: DevOptions) => {
      const { home } = program.opts<{ home?: string }>()
      await runDev(terminal, {
        home: home === undefined ? undefined : resolve(terminal.workingFolder, home),
        command,
        options,
      })
    })
  addToken(dev, program, terminal)
}
