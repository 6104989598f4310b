/** The first downstream of `deputy init`: an OAuth service with a provider file. */
import { neededVariables, type Provider, readProviders, scopeSchema, variablesSchema } from '#config'
import { didYouMean } from '#foundation/text'
import { type Answers, judgeText } from '../answers.ts'
import type { Judged } from '../asking.ts'
import { type ClientSecret, hasSecret } from '../registry/client-secret-file.ts'
import { shipped } from '../home.ts'
import { askSecret, type InitContext } from './answers.ts'
import { pairsOf, scopesOf } from '../registry/option-values.ts'
import type { DownstreamFacts } from '../registry/registry-documents.ts'
import { CommandError, exit } from '../terminal.ts'

export interface DownstreamAnswers {
  readonly facts: DownstreamFacts
  readonly provider: Provider
  readonly secret: ClientSecret | undefined
}

const judgeScopes = (text: string): Judged<Record<string, string>> => {
  const scopes = scopesOf([text])
  const wrong = Object.keys(scopes).find((scope) => !scopeSchema.safeParse(scope).success)
  return wrong === undefined
    ? { value: scopes }
    : { problem: `${JSON.stringify(wrong)} is no scope: printable ASCII without space, quote and backslash.` }
}

const judgeVariable =
  (name: string) =>
  (value: string): Judged<string> =>
    value !== '' && variablesSchema.safeParse({ [name]: value }).success
      ? { value }
      : { problem: `${JSON.stringify(value)} cannot stand in an address. Write a host, or one segment of a path.` }

const askVariables = async (
  provider: Provider,
  { answers, options }: { readonly answers: Answers; readonly options: { readonly variable?: string[] } },
): Promise<Record<string, string>> => {
  const given = pairsOf('--variable', options.variable)
  const values: Record<string, string> = { ...given }
  for (const name of neededVariables(provider))
    values[name] = await answers.need({
      option: `--variable ${name}=VALUE`,
      given: given[name],
      text: `${name} of ${provider.name}: ${provider.variables[name]!.meaning}`,
      judge: judgeVariable(name),
    })
  return values
}

/** @returns undefined where the person wants none */
export const askDownstream = async (tenant: string, context: InitContext): Promise<DownstreamAnswers | undefined> => {
  const { answers, options } = context
  const providers = await readProviders(context.home, shipped.providers, [])
  const provider = await answers.may<Provider>({
    option: '--provider ID',
    given: options.provider,
    text: 'OAuth service that it uses for its users, such as github or google (empty: none, or later)',
    judge: (id) => {
      const found = providers.get(id)?.value
      return found === undefined
        ? {
            problem: `Deputy has no provider file ${JSON.stringify(id)}. ${didYouMean(id, providers.keys())}`.trimEnd(),
          }
        : { value: found }
    },
  })
  if (provider === undefined) return undefined
  const variables = await askVariables(provider, context)
  const clientId = await answers.need({
    option: '--provider-client-id ID',
    given: options.providerClientId,
    text: `Client id of Deputy at ${provider.name}`,
    judge: judgeText,
  })
  const secret = await askSecret(context, {
    name: `${provider.provider}-client`,
    of: provider.name,
    option: '--provider-client-secret-file FILE',
    given: options.providerClientSecretFile,
  })
  if (secret === undefined && hasSecret(provider))
    throw new CommandError(
      exit.usage,
      `A client of ${provider.name} has a secret, and none was given.`,
      'Add --provider-client-secret-file FILE.',
    )
  const scopes =
    options.scope === undefined
      ? await answers.may({
          option: '--scope SCOPE',
          given: undefined,
          text: 'Scopes that the server may ask for, with commas between',
          judge: judgeScopes,
        })
      : scopesOf(options.scope)
  const facts: DownstreamFacts = {
    id: provider.provider,
    name: provider.name,
    tenants: [tenant],
    credential: 'oauth_grant',
    provider: provider.provider,
    client: { id: clientId, secretFile: secret?.file, variables },
    scopes: scopes ?? {},
    hosts: [],
  }
  return { facts, provider, secret }
}
