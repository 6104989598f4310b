/** `provider add`: a provider file from the metadata of an issuer, or the first downstream of a provider that has one. */
import type { Command } from 'commander'
import { formatProblem, parseYamlFile, providerSchema, readProviders } from '#config'
import { draftOf, readMetadata } from '#credentials/provider'
import { DeputyError } from '#errors'
import { didYouMean } from '#foundation/text'
import { changeRegistry } from '../registry/change-registry.ts'
import type { CommandContext } from '../context.ts'
import { shipped } from '../home.ts'
import { withProviders } from '../remote/provider-network.ts'
import { assertId, removing, writeNew } from '../registry/registry-file.ts'
import { CommandError, exit, withProgress } from '../terminal.ts'
import { addByForm, type FormOptions } from './downstream-form.ts'

interface AddOptions extends FormOptions {
  fromIssuer?: string
}

/** Writes `providers/<id>.yaml` from what the issuer publishes. */
const addFromIssuer = async (
  { id, issuer, name }: { readonly id: string; readonly issuer: string; readonly name: string },
  { terminal, home }: CommandContext,
): Promise<void> => {
  if (!URL.canParse(issuer)) throw new CommandError(exit.usage, `${issuer} is no URL.`)
  const metadata = await withProgress(
    terminal,
    'Reading metadata',
    withProviders(home(), (network) => readMetadata(issuer, { provider: id, clientId: 'deputy', ...network })),
  ).catch((error: unknown) => {
    if (error instanceof DeputyError) throw new CommandError(exit.failed, error.message)
    throw error
  })
  const file = `providers/${id}.yaml`
  const text = draftOf({ id, name, issuer, metadata })
  const { problems } = parseYamlFile(file, text, providerSchema)
  if (problems.length > 0) throw new CommandError(exit.failed, problems.map(formatProblem).join('\n'))
  await changeRegistry(home(), terminal, async () => {
    await writeNew({ home: home(), folder: 'providers', what: 'provider', id, text })
    return {
      file,
      done: `${file} is written. Read it, and what the service documents; then run: deputy provider check ${id}`,
      undo: removing(home(), file),
      next: `deputy downstream add NAME --provider ${id} --client-id ID --scope NAME="Description"`,
    }
  })
}

const addAction = async (id: string, options: AddOptions, context: CommandContext): Promise<void> => {
  const { terminal, home } = context
  assertId('provider', id)
  const { fromIssuer, name } = options
  if (fromIssuer !== undefined) return addFromIssuer({ id, issuer: fromIssuer, name: name ?? id }, context)
  const all = await readProviders(home(), shipped.providers, [])
  const provider = all.get(id)?.value
  if (provider === undefined)
    throw new CommandError(
      exit.usage,
      `Deputy has no provider file ${id}. ${didYouMean(id, all.keys())}`.trimEnd(),
      `deputy provider add ${id} --from-issuer URL`,
    )
  if (options.clientId === undefined)
    throw new CommandError(
      exit.usage,
      `The provider file of ${provider.name} exists (deputy provider show ${id}). Deputy needs its client there.`,
      `Register one there, and run: deputy provider add ${id} --client-id ID --scope NAME="Description"`,
    )
  terminal.out(`The facts of ${provider.name} are in its provider file (deputy provider show ${id}).\n`)
  return addByForm(id, { name: provider.name, ...options, provider: id }, context)
}

/** `provider add`. */
export const addProviderAdd = (provider: Command, context: CommandContext): void => {
  provider
    .command('add')
    .argument('<id>', 'id of the provider, used in downstreams')
    .option('--from-issuer <url>', 'write a provider file from the metadata of this issuer')
    .option('--client-id <id>', "Deputy's client at a provider that has a file: its downstream is written")
    .option(
      '--client-secret-file <path>',
      'file (0600) with the secret of that client, or - for standard input; asked for at a terminal',
    )
    .option('--scope <scope...>', 'scopes of the service: NAME="Description for users", or names with commas between')
    .option('--variable <name=value...>', 'values for {name} in the endpoints of the provider')
    .option('--host <origin...>', 'origins to which the proxy sends the credential')
    .option('--tenants <ids>', 'tenants that may use it, with commas between; default: all')
    .option('--name <name>', 'name on the consent page')
    .description(
      'write a provider file from the metadata of an issuer, or the downstream of a provider that has a file',
    )
    .addHelpText(
      'after',
      `
Examples:
  deputy provider add github --client-id Ov23liExample --scope repo="Your repositories"
  deputy provider add login --from-issuer https://login.example.com --name "Example"

With --client-id it is short for: deputy downstream add ID --provider ID`,
    )
    .action((id: string, options: AddOptions) => addAction(id, options, context))
}
