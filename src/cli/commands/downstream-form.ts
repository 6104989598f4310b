/** `downstream add ID`: the file of a service, from options. The kinds that need more are in docs/configuration.md. */
import {
  credentialKindSchema,
  formatProblem,
  neededVariables,
  parseYamlFile,
  downstreamSchema,
  type Provider,
  readProviders,
  resourceSchema,
  type Settings,
  variablesSchema,
} from '#config'
import { didYouMean } from '#foundation/text'
import { changeRegistry } from '../registry/change-registry.ts'
import { type ClientSecret, clientSecretOf, hasSecret, writeNewWithSecret } from '../registry/client-secret-file.ts'
import type { CommandContext } from '../context.ts'
import { readSettings, shipped } from '../home.ts'
import { listOf, pairsOf, scopesOf } from '../registry/option-values.ts'
import { callbackAddress } from '../registry/redirect-uris.ts'
import { type DownstreamFacts, downstreamText, type FormKind, useLines } from '../registry/registry-documents.ts'
import { assertNewId } from '../registry/registry-file.ts'
import { CommandError, exit, type Terminal } from '../terminal.ts'

export interface FormOptions {
  credential?: string
  provider?: string
  variable?: string[]
  scope?: string[]
  secretName?: string
  backend?: string
  resource?: string
  host?: string[]
  name?: string
  tenants?: string
  clientId?: string
  clientSecretFile?: string
}

const OF_PROVIDERS = ['oauth_grant', 'client_credentials', 'token_exchange', 'entra_obo'] as const
const OF_SECRETS = ['static', 'api_key', 'basic'] as const
/** The kinds that options describe. */
export const FORM_KINDS: readonly FormKind[] = [...OF_PROVIDERS, ...OF_SECRETS, 'minted']

const isOneOf = <Kind extends string>(kinds: readonly Kind[], kind: string): kind is Kind =>
  (kinds as readonly string[]).includes(kind)

/** The kind of credential: as `--credential` says, else by the other options. @throws CommandError `usage` */
const kindOf = ({ credential, provider, secretName, resource }: FormOptions): FormKind => {
  const named =
    credential ??
    (provider !== undefined
      ? 'oauth_grant'
      : secretName !== undefined
        ? 'static'
        : resource !== undefined
          ? 'minted'
          : undefined)
  if (named === undefined)
    throw new CommandError(
      exit.usage,
      'The options do not say which credential the service takes.',
      'Add --provider ID, --secret-name NAME, --resource URI, or --mcp URL for an MCP server.',
    )
  if (isOneOf(FORM_KINDS, named)) return named
  const kinds = credentialKindSchema.options
  throw new CommandError(
    exit.usage,
    isOneOf(kinds, named)
      ? `The kind ${named} has settings that no option describes.`
      : `There is no kind of credential ${named}. ${didYouMean(named, kinds)}`.trimEnd(),
    'docs/configuration.md, under downstreams/*.yaml, has the settings of every kind; write the file, then run: deputy check',
  )
}

const providerOf = async (home: string, id: string | undefined): Promise<Provider> => {
  if (id === undefined)
    throw new CommandError(
      exit.usage,
      'This kind of credential needs a provider.',
      'Add --provider ID: deputy provider list',
    )
  const all = await readProviders(home, shipped.providers, [])
  const found = all.get(id)?.value
  if (found !== undefined) return found
  throw new CommandError(
    exit.usage,
    `There is no provider ${id}. ${didYouMean(id, all.keys())}`.trimEnd(),
    'deputy provider list shows the names.',
  )
}

/** @throws CommandError `usage` for values that the provider lacks or does not take */
const variablesOf = (provider: Provider, texts: readonly string[] | undefined): Record<string, string> => {
  const { data, error } = variablesSchema.safeParse(pairsOf('--variable', texts))
  if (data === undefined)
    throw new CommandError(exit.usage, `A --variable cannot be used: ${error.issues[0]!.message}.`)
  const missing = neededVariables(provider).find((name) => !Object.hasOwn(data, name))
  if (missing === undefined) return data
  throw new CommandError(
    exit.usage,
    `The provider ${provider.provider} needs the variable ${missing}: ${provider.variables[missing]!.meaning}`,
    `Add --variable ${missing}=VALUE.`,
  )
}

interface Form {
  readonly facts: DownstreamFacts
  readonly provider?: Provider
  readonly clientSecret?: ClientSecret | undefined
}

interface FormPlace {
  readonly home: string
  readonly terminal: Terminal
}

const providedForm = async (
  common: Omit<DownstreamFacts, 'provider' | 'client'>,
  options: FormOptions,
  { home, terminal }: FormPlace,
): Promise<Form> => {
  const provider = await providerOf(home, options.provider)
  const variables = variablesOf(provider, options.variable)
  const { clientId, clientSecretFile } = options
  if (clientId === undefined)
    throw new CommandError(
      exit.usage,
      `Deputy needs its client at ${provider.name}.`,
      'Register one there, and add --client-id ID.',
    )
  const clientSecret = await clientSecretOf(
    { home, option: clientSecretFile, name: `${common.id}-client`, isNeeded: hasSecret(provider) },
    terminal,
  )
  const client = { id: clientId, secretFile: clientSecret?.file, variables }
  return { facts: { ...common, provider: provider.provider, client }, provider, clientSecret }
}

const formOf = async (id: string, options: FormOptions, place: FormPlace): Promise<Form> => {
  const credential = kindOf(options)
  const tenants = options.tenants === undefined ? '*' : listOf(options.tenants)
  const { name, resource, host: hosts = [] } = options
  const common = { id, name, tenants, credential, resource, scopes: scopesOf(options.scope), hosts } as const
  if (isOneOf(OF_PROVIDERS, credential)) return providedForm(common, options, place)
  if (isOneOf(OF_SECRETS, credential))
    return { facts: { ...common, secret: { name: options.secretName ?? id, backend: options.backend ?? 'embedded' } } }
  if (resource === undefined || !resourceSchema.safeParse(resource).success)
    throw new CommandError(exit.usage, 'A minted token needs its audience.', 'Add --resource URI.')
  return { facts: common }
}

/** Steps that are left to people, a line each. */
const nextOf = ({ facts, provider }: Form, settings: Settings): string => {
  const { id, credential, secret, tenants, scopes } = facts
  const tenant = tenants === '*' ? 'ID' : tenants[0]
  return [
    ...(provider !== undefined && credential === 'oauth_grant'
      ? [`register the redirect URI at ${provider.name}: ${callbackAddress(settings, provider)}`]
      : []),
    ...(secret?.backend === 'embedded'
      ? [`store the secret of each tenant: deputy secret set ${secret.name} --tenant ${tenant} < FILE`]
      : []),
    'add it to the file of each server that may use it, and permit it in a policy:',
    ...useLines(id, Object.keys(scopes))
      .split('\n')
      .map((line) => `  ${line}`),
    `  permit (principal in Deputy::Tenant::"${tenant}", action == Deputy::Action::"${credential}", resource == Deputy::Downstream::"${id}");`,
    'then: deputy check',
  ].join('\n')
}

/** Writes the file of a downstream, and the secret of its client. @throws CommandError */
export const addByForm = async (
  id: string,
  options: FormOptions,
  { terminal, home }: CommandContext,
): Promise<void> => {
  const settings = await readSettings(home())
  const { environment } = settings
  await assertNewId(terminal, { home: home(), environment, id }, { folder: 'downstreams', key: 'downstream' })
  const form = await formOf(id, options, { home: home(), terminal })
  const text = downstreamText(form.facts)
  const file = `downstreams/${id}.yaml`
  const { problems } = parseYamlFile(file, text, downstreamSchema)
  if (problems.length > 0) throw new CommandError(exit.usage, problems.map(formatProblem).join('\n'))
  await changeRegistry(home(), terminal, async () => {
    const written = await writeNewWithSecret(
      { home: home(), folder: 'downstreams', what: 'downstream', id, text },
      settings,
      form.clientSecret,
    )
    return {
      ...written,
      done: `${written.file} is written.`,
      next: nextOf(form, settings),
    }
  })
}
