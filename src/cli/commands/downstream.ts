import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import {
  downstreamSchema,
  formatProblem,
  type KnownServer,
  loadLocations,
  parseYamlFile,
  providerSchema,
  readKnownServers,
} from '#config'
import { remoteDownstreamText, remoteProviderText } from '#credentials/provider'
import { Secret } from '#foundation/crypto'
import { didYouMean } from '#foundation/text'
import type { CommandContext } from '../context.ts'
import { readSettings, shippedKnownServers } from '../home.ts'
import { egressOf } from '../remote/egress.ts'
import { changeRegistry } from '../registry/change-registry.ts'
import { assertId, assertUrl, removing, writeNew } from '../registry/registry-file.ts'
import type { RemoteRequest, RemoteResult } from '../remote/remote-request.ts'
import { addRemoteServer, assertNew, idForServer } from '../remote/remote-server.ts'
import { addByForm, FORM_KINDS, type FormOptions } from './downstream-form.ts'
import { CommandError, exit, print, shownText, shownTime, table, type Terminal, withProgress } from '../terminal.ts'

interface AddOptions extends FormOptions {
  mcp?: string
  known?: string
  id?: string
  authorizationServer?: string
}

const knownServer = async (name: string): Promise<KnownServer> => {
  const all = await readKnownServers(shippedKnownServers)
  const known = all.get(name)
  if (known === undefined)
    throw new CommandError(
      exit.usage,
      `Deputy knows no MCP server ${name}. ${didYouMean(name, all.keys())}`.trimEnd(),
      'deputy downstream known',
    )
  return known
}

/** The tenants that an option names, and those of the home that they are. @throws CommandError for one that no file defines */
const tenantsOf = async (
  home: string,
  environment: string,
  text: string | undefined,
): Promise<Pick<RemoteRequest, 'tenants' | 'tenantIds'>> => {
  const known = [...(await loadLocations(home, 'tenants', 'tenant', environment)).keys()]
  if (text === undefined) return { tenants: '*', tenantIds: known }
  const named = [...new Set(text.split(',').map((each) => each.trim()))]
  const unknown = named.find((each) => !known.includes(each))
  if (unknown !== undefined)
    throw new CommandError(
      exit.usage,
      `There is no tenant '${unknown}'. ${didYouMean(unknown, known)}`.trimEnd(),
      'deputy tenant list',
    )
  return { tenants: named, tenantIds: named }
}

const clientOf = async (
  { clientId, clientSecretFile }: AddOptions,
  { workingFolder, input }: Pick<Terminal, 'workingFolder' | 'input'>,
): Promise<RemoteRequest['client']> => {
  if (clientId === undefined) {
    if (clientSecretFile !== undefined) throw new CommandError(exit.usage, 'A client secret needs its --client-id.')
    return undefined
  }
  if (clientSecretFile === undefined) return { clientId, secret: undefined }
  const bytes = clientSecretFile === '-' ? await input() : await readFile(resolve(workingFolder, clientSecretFile))
  const text = Buffer.from(bytes).toString('utf8').trim()
  if (text === '') throw new CommandError(exit.usage, `${clientSecretFile} is empty.`)
  return { clientId, secret: new Secret(text) }
}

/** What the options, the known servers and the home say about the server. */
const requestOf = async (
  options: AddOptions,
  { terminal, home }: CommandContext,
  environment: string,
): Promise<RemoteRequest> => {
  if ((options.mcp === undefined) === (options.known === undefined))
    throw new CommandError(exit.usage, 'Name the server with either --mcp URL or --known NAME.')
  const known = options.known === undefined ? undefined : await knownServer(options.known)
  const url = options.mcp ?? known!.mcp
  assertUrl('an MCP server', url)
  if (options.authorizationServer !== undefined) assertUrl('an authorization server', options.authorizationServer)
  const id = options.id ?? (known === undefined ? idForServer(url) : `${known.known}-mcp`)
  assertId('downstream', id)
  return {
    url,
    id,
    // The host, not the name that the server gives itself: that one appears on the consent page.
    name: options.name ?? known?.name ?? new URL(url).host,
    known,
    issuer: options.authorizationServer,
    client: await clientOf(options, terminal),
    ...(await tenantsOf(home(), environment, options.tenants)),
  }
}

/** Writes both files. @throws CommandError where what the server says does not make files in order */
const writeFiles = async ({ facts }: RemoteResult, { terminal, home }: CommandContext): Promise<void> => {
  const { id } = facts
  const texts = [
    { folder: 'providers', what: 'provider', text: remoteProviderText(facts), schema: providerSchema },
    { folder: 'downstreams', what: 'downstream', text: remoteDownstreamText(facts), schema: downstreamSchema },
  ]
  const problems = texts.flatMap(
    ({ folder, text, schema }) => parseYamlFile(`${folder}/${id}.yaml`, text, schema).problems,
  )
  if (problems.length > 0) throw new CommandError(exit.failed, problems.map(formatProblem).join('\n'))
  await changeRegistry(home(), terminal, async () => {
    const written: string[] = []
    const undo = async (): Promise<void> => {
      for (const file of written) await removing(home(), file)()
    }
    try {
      for (const { folder, what, text } of texts) written.push(await writeNew({ home: home(), folder, what, id, text }))
    } catch (error) {
      await undo()
      throw error
    }
    return { file: `downstreams/${id}.yaml`, done: `${written.join(' and ')} are written.`, undo }
  })
}

const CLIENT_LINES: Readonly<Record<RemoteResult['how'], string>> = {
  document: 'Deputy is known there by the document that it publishes at its client id',
  dynamic: 'Deputy has registered itself there',
  manual: 'Deputy uses the client that you registered there',
}

/** Where users and their codes go. With another host for codes and no `iss` in answers, a mix-up would go unnoticed (RFC 9700 section 4.4). */
const hostsOf = ({ server }: RemoteResult['facts']): string => {
  const [users, codes] = [server.authorization_endpoint, server.token_endpoint].map((url) => new URL(url).host)
  const isWatched = users === codes || server.authorization_response_iss_parameter_supported === true
  return `Users give consent at ${users}; codes and tokens are exchanged at ${codes}.${isWatched ? '' : ' Check that both hosts belong to the operator.'}`
}

/** What was done, and what to do next. */
const summaryOf = (result: RemoteResult, wanted: RemoteRequest): string => {
  const { facts, issuers } = result
  const { id, client, scopes, server, url } = facts
  const others = issuers.filter((each) => each !== server.issuer)
  const held =
    client.secretName === undefined
      ? ''
      : `; the secret ${client.secretName} of ${wanted.tenantIds.join(', ')} holds the client secret`
  const path = new URL(url).pathname
  return [
    `Authorization server: ${server.issuer}${others.length === 0 ? '' : ` (it also names ${others.join(', ')}; choose with --authorization-server)`}`,
    hostsOf(facts),
    `${CLIENT_LINES[result.how]}: ${client.clientId} (${client.authentication})${held}.`,
    ...(client.secretName !== undefined && wanted.tenants === '*'
      ? [
          `A tenant that is added later needs the secret ${client.secretName} too: deputy secret set ${client.secretName} --tenant ID`,
        ]
      : []),
    ...(result.secretExpiresAt === undefined
      ? []
      : [
          `The client secret ends at ${shownTime(result.secretExpiresAt)}. Add the server under a new id before that time.`,
        ]),
    'Next: read both files, add the downstream to the file of each MCP server that may use it, permit it in a policy, and run `deputy reload`:',
    '  downstreams:',
    `    ${id}: { scopes: [${Object.keys(scopes)
      .map((scope) => JSON.stringify(scope))
      .join(', ')}] }`,
    `  permit (principal is Deputy::User, action == Deputy::Action::"oauth_grant", resource == Deputy::Downstream::"${id}");`,
    `Those servers reach it through the proxy at /d/${id}${path === '/' ? '/' : path}.`,
  ].join('\n')
}

/** A remote MCP server: its metadata is read, Deputy becomes a client, and two files are written. */
const addRemote = async (options: AddOptions, context: CommandContext): Promise<void> => {
  const { terminal, home, socket } = context
  const settings = await readSettings(home())
  const wanted = await requestOf(options, context, settings.environment)
  await assertNew({ home: home() }, wanted.id)
  for (const note of wanted.known?.notes ?? []) terminal.out(`${note}\n`)
  const egress = await egressOf(home(), settings.network)
  try {
    const result = await withProgress(
      terminal,
      'Reading metadata',
      addRemoteServer(wanted, { home: home(), settings, egress, socket: await socket() }),
    )
    await writeFiles(result, context)
    terminal.out(`${shownText(summaryOf(result, wanted))}\n`)
  } finally {
    await egress.close()
  }
}

const addAction = (argument: string | undefined, options: AddOptions, context: CommandContext): Promise<void> => {
  const id = argument ?? options.id
  if (options.mcp !== undefined || options.known !== undefined)
    return addRemote({ ...options, ...(id === undefined ? {} : { id }) }, context)
  if (id === undefined)
    throw new CommandError(
      exit.usage,
      'Name the downstream by an id, or an MCP server with either --mcp URL or --known NAME.',
      'deputy downstream add --help',
    )
  return addByForm(id, options, context)
}

/** `downstream add`. */
const addDownstreamAdd = (downstream: Command, context: CommandContext): void => {
  downstream
    .command('add')
    .argument('[id]', 'id of the downstream; with --mcp the default is by the host, such as linear-mcp')
    .description('write the file of a service: by a provider, a secret of the tenant, or the URL of an MCP server')
    .option('--provider <id>', 'users connect their accounts at this OAuth service (deputy provider list)')
    .option('--client-id <id>', "Deputy's client there, which you have registered")
    .option(
      '--client-secret-file <path>',
      'file (0600) with the secret of that client, or - for standard input; asked for at a terminal',
    )
    .option('--scope <scope...>', 'scopes of the service: NAME="Description for users", or names with commas between')
    .option('--variable <name=value...>', 'values for {name} in the endpoints of the provider')
    .option('--secret-name <name>', 'in place of a provider: name of a secret of the tenant (deputy secret set)')
    .option('--backend <id>', 'the secret backend that holds it; default: embedded')
    .option('--resource <uri>', 'URI of the service; without provider and secret: audience of tokens that Deputy signs')
    .option(
      '--credential <kind>',
      `kind of credential, where the options above do not decide it: ${FORM_KINDS.join(', ')}`,
    )
    .option('--host <origin...>', 'origins to which the proxy sends the credential, such as https://api.example.com')
    .option('--mcp <url>', 'URL of an MCP server: its metadata is read, and Deputy becomes a client')
    .option('--known <name>', 'an MCP server of `deputy downstream known`, instead of a URL')
    .option('--id <id>', 'the id, in place of the argument')
    .option('--name <name>', 'name on the consent page; default with --mcp: the host')
    .option('--tenants <ids>', 'tenants that may use it, with commas between; default: all')
    .option(
      '--authorization-server <url>',
      'with --mcp, the issuer to use; needed where it is at another host than the MCP server; default: the first that the server names',
    )
    .addHelpText(
      'after',
      `
Examples:
  deputy downstream add github --provider github --client-id Ov23liExample --scope repo="Your repositories"
  deputy downstream add weather --credential api_key --secret-name weather-key --host https://api.weather.example
  deputy downstream add ledger --resource https://ledger.acme.example --scope read,write
  deputy downstream add --mcp https://mcp.example.com/mcp --tenants acme
  deputy downstream add --known linear

Other kinds of credentials have settings that no option describes: docs/configuration.md.`,
    )
    .action((id: string | undefined, options: AddOptions) => addAction(id, options, context))
}

/** `downstream known`. */
const addDownstreamKnown = (downstream: Command, { terminal }: CommandContext): void => {
  downstream
    .command('known')
    .description('list remote MCP servers whose documentation Deputy knows')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy downstream known')
    .action(async (options: { json?: boolean }) => {
      const rows = [...(await readKnownServers(shippedKnownServers)).values()]
      print(terminal, options, rows, () => table(['known', 'name', 'mcp', 'registration'], rows))
    })
}

/** `downstream add|known`. */
export const addDownstreamCommands = (downstream: Command, context: CommandContext): void => {
  addDownstreamAdd(downstream, context)
  addDownstreamKnown(downstream, context)
}
