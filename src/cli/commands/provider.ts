import { InvalidArgumentError, type Command } from 'commander'
import {
  formatProblem,
  neededVariables,
  type Problem,
  type Provider,
  providerFor,
  readProviders,
  variablesSchema,
} from '#config'
import { differences, readMetadata } from '#credentials/provider'
import { DeputyError } from '#errors'
import type { CommandContext } from '../context.ts'
import { shipped } from '../home.ts'
import { type ProviderNetwork, withProviders } from '../remote/provider-network.ts'
import { CommandError, exit, print, withProgress } from '../terminal.ts'
import { countOf } from '../words.ts'
import { addProviderAdd } from './provider-add.ts'

interface Output {
  json?: boolean
}

/** The comparison of a file with the metadata of its provider. */
interface Compared {
  readonly provider: string
  readonly compared: boolean
  readonly differences: readonly string[]
  readonly why?: string
}

const variable = (text: string, known: Readonly<Record<string, string>>): Record<string, string> => {
  const at = text.indexOf('=')
  const parsed = variablesSchema.safeParse({ ...known, [text.slice(0, at)]: text.slice(at + 1) })
  if (at < 1 || !parsed.success) throw new InvalidArgumentError('Write NAME=VALUE, for example host=dev-123.okta.com.')
  return parsed.data
}

const compare = async (
  file: Provider,
  given: Readonly<Record<string, string>>,
  network: ProviderNetwork,
): Promise<Compared> => {
  const { provider: id } = file
  if (file.issuer === undefined)
    return { provider: id, compared: false, differences: [], why: 'it names no issuer that publishes metadata' }
  const missing = neededVariables(file).filter((name) => !Object.hasOwn(given, name))
  if (missing.length > 0)
    return {
      provider: id,
      compared: false,
      differences: [],
      why: `say ${missing.map((name) => `--variable ${name}=…`).join(' ')}`,
    }
  const filled = providerFor(file, given)
  try {
    return {
      provider: id,
      compared: true,
      differences: differences(
        filled,
        await readMetadata(filled.issuer!, { provider: id, clientId: 'deputy', ...network }),
      ),
    }
  } catch (error) {
    if (!(error instanceof DeputyError)) throw error
    return { provider: id, compared: false, differences: [error.message] }
  }
}

/** `provider check`. */
const addProviderCheck = (provider: Command, { terminal, home }: CommandContext): void => {
  provider
    .command('check')
    .argument('[ids...]', 'default: all')
    .description('check provider files; with --online, also against the metadata that the providers publish')
    .option('--online', 'compare with the published metadata')
    .option('--variable <name=value>', 'value of {name} in an endpoint; may be repeated', variable, {})
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  deputy provider check\n  deputy provider check okta --online --variable host=dev-123.okta.com\n\nExit code 3 when a file has a problem, 5 when the metadata of a provider differs from its file.',
    )
    .action(async (ids: string[], options: Output & { online?: boolean; variable: Record<string, string> }) => {
      const problems: Problem[] = []
      const all = await readProviders(home(), shipped.providers, problems)
      const unknown = ids.find((id) => !all.has(id))
      if (unknown !== undefined && problems.length === 0)
        throw new CommandError(exit.failed, `There is no provider ${unknown}.`, 'deputy provider list')
      const chosen = [...all.values()]
        .map(({ value }) => value)
        .filter(({ provider: id }) => ids.length === 0 || ids.includes(id))
      const compared =
        options.online !== true
          ? []
          : await withProgress(
              terminal,
              'Reading metadata',
              withProviders(home(), (network) =>
                Promise.all(chosen.map((each) => compare(each, options.variable, network))),
              ),
            )
      print(
        terminal,
        options,
        {
          ok: problems.length === 0 && compared.every((each) => each.differences.length === 0),
          problems,
          providers: chosen.map(({ provider: id }) => id),
          ...(options.online === true ? { compared } : {}),
        },
        () =>
          [
            ...problems.map(formatProblem),
            ...(problems.length > 0 ? [] : [`In order: ${countOf(chosen.length, 'provider file')}.`]),
            ...compared.flatMap((each) =>
              each.differences.length > 0
                ? each.differences.map((difference) => `${each.provider}: ${difference}`)
                : [`${each.provider}: ${each.compared ? 'as its metadata says' : `not compared: ${each.why}`}`],
            ),
          ].join('\n'),
      )
      if (problems.length > 0) throw new CommandError(exit.configuration, '')
      if (compared.some((each) => each.differences.length > 0)) throw new CommandError(exit.unverified, '')
    })
}

/** `provider check|add`. */
export const addProviderCommands = (provider: Command, context: CommandContext): void => {
  addProviderCheck(provider, context)
  addProviderAdd(provider, context)
}
