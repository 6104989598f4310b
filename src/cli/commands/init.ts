/** `init`: a new configuration folder, from answers, options, or nothing. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { createSystemRandom } from '#clock'
import { formatProblem, idSchema, type Problem } from '#config'
import { Answers, judgeBy } from '../answers.ts'
import { checkHome } from '../check/check-home.ts'
import type { CommandContext } from '../context.ts'
import { askServer, askTenant, type InitContext, type InitOptions } from '../init/answers.ts'
import { askDownstream } from '../init/downstream.ts'
import { initFiles, type InitResult, nextCommands, notesOf } from '../init/files.ts'
import { assertNewHome, writeHome } from '../init/new-home.ts'
import { type NewFile, skeletonFiles } from '../init/skeleton.ts'
import { type Asking, CommandError, exit, print, type Terminal } from '../terminal.ts'

interface Options extends InitOptions {
  /** False with `--no-input`. */
  input: boolean
  json?: boolean
}

const INTRODUCTION = `Deputy asks for the first tenant, its identity provider and the first MCP server, and tests the answers.
Nothing is written before the last answer; Ctrl-C stops. Enter takes what stands in brackets.`

/** The questions, or their options. @returns undefined for a folder without a tenant */
const askAll = async (context: InitContext): Promise<InitResult | undefined> => {
  const { answers, options } = context
  const idOf = (option: 'tenant' | 'server', text: string) =>
    answers.may({
      option: `--${option} ID`,
      given: options[option],
      text,
      judge: judgeBy(idSchema, `the id of a ${option}`),
    })
  const tenantId = await idOf('tenant', 'Id of the first tenant, such as acme (empty: none yet)')
  if (tenantId === undefined) return undefined
  const tenant = await askTenant(tenantId, context)
  const serverId = await idOf('server', 'Id of the first MCP server, such as notes (empty: none yet)')
  if (serverId === undefined) return { tenant, server: undefined, downstream: undefined }
  const server = await askServer(serverId, tenantId, context)
  return { tenant, server, downstream: await askDownstream(tenantId, context) }
}

/** Options that say something about the new folder. */
const saidBy = ({ input: _, json: _json, offline: _offline, ...said }: Options): string[] => Object.keys(said)

/** @throws CommandError `usage` for options that would be left out of account */
const assertWhole = (options: Options): void => {
  const said = saidBy(options)
  if (said.length > 0 && options.tenant === undefined)
    throw new CommandError(exit.usage, 'The options describe a first tenant without an id.', 'Add --tenant ID.')
  const ofServer = ['resource', 'owner', 'uid', 'publicKey', 'clientSecret', 'serviceAccount', 'provider'] as const
  if (options.server === undefined && ofServer.some((name) => options[name] !== undefined))
    throw new CommandError(exit.usage, 'The options describe a first server without an id.', 'Add --server ID.')
}

const collect = async (home: string, options: Options, terminal: Terminal): Promise<InitResult | undefined> => {
  const asking: Asking | undefined = options.input ? terminal.openQuestions?.() : undefined
  if (asking === undefined) {
    assertWhole(options)
    if (options.tenant === undefined) return undefined
  }
  try {
    const answers = new Answers(terminal, asking)
    if (asking !== undefined) answers.tell(INTRODUCTION)
    return await askAll({ home, terminal, answers, options })
  } finally {
    asking?.close()
  }
}

/** Writes the files and checks them. @returns the warnings. @throws CommandError `configuration`; nothing is left then */
const writeAndCheck = async (home: string, files: readonly NewFile[], terminal: Terminal) => {
  const stop = new AbortController()
  const onSignal = (): void => {
    stop.abort(new CommandError(exit.interrupted, 'Stopped: nothing was written.'))
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, onSignal)
  try {
    const written = await writeHome(home, files, stop.signal)
    const { problems, warnings } = await checkHome(home, terminal, { online: false })
    if (problems.length === 0 && !stop.signal.aborted) return { created: written.created, warnings }
    await written.remove()
    stop.signal.throwIfAborted()
    throw new CommandError(
      exit.configuration,
      `Nothing was written, because of problems in the files:\n${problems.map(formatProblem).join('\n')}`,
      'Correct the answers, and run the command again.',
    )
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, onSignal)
  }
}

/** The plain folder is the same each time: its test checks it. */
const writePlain = async (home: string): Promise<{ created: readonly string[]; warnings: readonly Problem[] }> => {
  const files = await skeletonFiles(createSystemRandom())
  return { created: (await writeHome(home, files, new AbortController().signal)).created, warnings: [] }
}

const initAction = async (home: string, options: Options, terminal: Terminal): Promise<void> => {
  await assertNewHome(home)
  const result = await collect(home, options, terminal)
  const { created, warnings } =
    result === undefined
      ? await writePlain(home)
      : await writeAndCheck(home, await initFiles(createSystemRandom(), result), terminal)
  const isUntested = result !== undefined && options.offline === true
  const notes = [
    ...(result === undefined ? [] : notesOf(result)),
    ...(isUntested ? ['The identity provider and the Unix user were not tested (--offline).'] : []),
  ]
  const next = nextCommands(home, result)
  print(terminal, options, { home, created, warnings, notes, next }, () =>
    [
      `${home} is ready: ${created.length} files.`,
      ...warnings.map((warning) => `warning: ${formatProblem(warning)}`),
      ...notes,
      'Next:',
      ...next.map((command) => `  ${command}`),
    ].join('\n'),
  )
}

const addOptions = (init: Command): Command =>
  init
    .option('--tenant <id>', 'id of the first tenant')
    .option('--tenant-name <name>', 'its name for people')
    .option('--issuer <url>', 'its identity provider; its metadata and keys are read')
    .option(
      '--tenant-claim <name=value>',
      'claim that names the organization, where several share the identity provider',
    )
    .option('--client-id <id>', "Deputy's client at the identity provider, for sign-in on its pages")
    .option('--client-secret-file <path>', 'file with its secret, or - for standard input; it is copied into secrets/')
    .option('--connect-url <url>', "public https URL of Deputy's pages; default: only this machine reaches them")
    .option('--environment <name>', 'default: production with --connect-url, else development')
    .option('--allow-loopback', 'development: identity providers and services on this machine, over plain http')
    .option('--allow-private <range...>', 'private ranges in which identity providers and services are')
    .option('--server <id>', 'id of the first MCP server')
    .option('--resource <url>', 'URL at which MCP clients reach it')
    .option('--owner <owner>', 'who answers for it; default: the user who runs the command')
    .option('--uid <user>', 'proof of the server: the Unix user of its process, by name or number')
    .option('--public-key <file>', 'proof of the server: signatures by this key (PEM or JWK)')
    .option('--client-secret', 'proof of the server: a client secret, which is made now and shown once')
    .option('--service-account <namespace/name>', 'proof of the server: the service account of its Kubernetes pod')
    .option('--cluster-issuer <url>', 'issuer of the service accounts of that cluster')
    .option('--provider <id>', 'OAuth service that the server uses for its users (deputy provider list)')
    .option('--variable <name=value...>', 'values for {name} in the endpoints of the provider')
    .option('--provider-client-id <id>', "Deputy's client at the provider")
    .option('--provider-client-secret-file <path>', 'file with its secret, or - for standard input')
    .option(
      '--scope <scope...>',
      'scopes that the server may ask for: NAME="Description", or names with commas between',
    )
    .option('--offline', 'do not test the identity provider and the Unix user')
    .option('--no-input', 'ask nothing')
    .option('--json', 'print JSON')

/** `init`. */
export const addInit = (program: Command, { terminal, home }: CommandContext): void => {
  addOptions(
    program
      .command('init')
      .description(
        'write a configuration folder; at a terminal it asks for the first tenant and server, and tests the answers',
      )
      .argument('[folder]', 'folder to write; default: the home folder'),
  )
    .addHelpText(
      'after',
      `
Examples:
  deputy init ./deputy
  deputy init /etc/deputy --no-input
  deputy init /etc/deputy --tenant acme --issuer https://login.acme.example --server notes --resource https://notes.acme.example/mcp --uid notes

Without a terminal and without options it writes a folder with comments and keys, and nothing else. It writes all files or none.`,
    )
    .action((folder: string | undefined, options: Options) =>
      initAction(folder === undefined ? home() : resolve(terminal.workingFolder, folder), options, terminal),
    )
}
