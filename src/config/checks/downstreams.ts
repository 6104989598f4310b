import { didYouMean, ownValue } from '#foundation/text'
import type { Downstream, OAuthClient, ProvidedDownstream } from '../downstream.ts'
import { engineProblems } from '../engine-question.ts'
import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import { neededVariables, type Provider } from '../provider.ts'
import type { Settings } from '../settings.ts'
import type { Located } from '../yaml-file.ts'
import { EMBEDDED } from './backends.ts'
import { documentProblems } from './client-documents.ts'
import { bindingProblems, injectionProblems } from './injection.ts'
import { isLoopback } from './listen.ts'
import { list, problemsOf, unknownTenants } from './names.ts'

const isProvided = (located: Located<Downstream>): located is Located<ProvidedDownstream> => 'provider' in located.value

const checkProviderName = (located: Located<ProvidedDownstream>, providers: Loaded['providers']): Problem[] => {
  const { provider } = located.value
  return providers.has(provider)
    ? []
    : [
        problemsOf(located)(
          ['provider'],
          `There is no provider ${provider}.`,
          didYouMean(provider, providers.keys()) ||
            `Write providers/${provider}.yaml, or name one of: ${list(providers.keys())}.`,
        ),
      ]
}

/** The variables of one client: all that its provider needs, and none that the provider does not know. */
const checkVariables = (
  located: Located<ProvidedDownstream>,
  path: readonly string[],
  client: OAuthClient,
  provider: Provider | undefined,
): Problem[] => {
  if (provider === undefined) return []
  const problem = problemsOf(located)
  const missing = neededVariables(provider).filter((name) => !Object.hasOwn(client.variables, name))
  const unknown = Object.keys(client.variables).filter((name) => !Object.hasOwn(provider.variables, name))
  return [
    ...missing.map((name) =>
      problem(
        path,
        `The provider ${provider.provider} needs the variable ${name}: ${provider.variables[name]!.meaning}`,
        `Write variables: { ${name}: … } under ${path.join('.')}.`,
      ),
    ),
    ...unknown.map((name) =>
      problem(
        [...path, 'variables', name],
        `The provider ${provider.provider} has no variable ${name}.`,
        `Known: ${list(Object.keys(provider.variables))}.`,
      ),
    ),
  ]
}

/** Every OAuth client of a downstream: the common one and those of single tenants. */
const checkClients = (
  located: Located<ProvidedDownstream>,
  provider: Provider | undefined,
  settings: Settings,
): Problem[] => {
  const { client: common, clients } = located.value
  const all: [path: string[], client: OAuthClient][] = [
    [['client'], common],
    ...Object.entries(clients).map(([tenant, each]): [string[], OAuthClient] => [['clients', tenant], each]),
  ]
  return all.flatMap(([path, client]) => [
    ...checkVariables(located, path, client, provider),
    ...documentProblems(client, provider, settings).map(({ message, fix }) =>
      problemsOf(located)([...path, 'client_id'], message, fix),
    ),
  ])
}

/** Where users connect, the provider needs an authorization endpoint. */
const checkAuthorization = (located: Located<ProvidedDownstream>, provider: Provider | undefined): Problem[] =>
  located.value.credential === 'oauth_grant' &&
  provider !== undefined &&
  !provider.discovery &&
  provider.authorization_endpoint === undefined
    ? [
        problemsOf(located)(
          ['provider'],
          `The provider ${located.value.provider} has no authorization_endpoint, so users cannot connect there.`,
          "Add it to the provider's file.",
        ),
      ]
    : []

/** An identity assertion names the provider's issuer, and its tenant's identity provider must issue one. */
const checkAssertions = (
  located: Located<ProvidedDownstream>,
  provider: Provider | undefined,
  tenants: Loaded['tenants'],
): Problem[] => {
  const { value } = located
  if (value.credential !== 'id_jag') return []
  const problem = problemsOf(located)
  const unusable =
    provider !== undefined && (provider.issuer === undefined || provider.client_authentication === 'none')
  const unable = (value.tenants === '*' ? [] : value.tenants).flatMap((tenant, at) => {
    const known = tenants.get(tenant)?.value
    return known === undefined || known.sign_in?.client_secret !== undefined
      ? []
      : problem(
          ['tenants', at],
          `The tenant ${tenant} has no sign-in whose client has a secret, so its identity provider issues no assertions.`,
          `Add sign_in with client_secret to tenants/${tenant}.yaml.`,
        )
  })
  return [
    ...(unusable
      ? [
          problem(
            ['provider'],
            `The provider ${value.provider} cannot accept identity assertions: an assertion names the provider's issuer, and the client authenticates.`,
            "Add `issuer`, and a `client_authentication` other than none, to the provider's file.",
          ),
        ]
      : []),
    ...unable,
  ]
}

/** Credentials that a secrets engine makes come from a backend of the kind vault. */
const checkEngineBackend = (located: Located<Downstream>, { backends }: Settings['secrets']): Problem[] => {
  const { value } = located
  if (value.credential !== 'dynamic' && value.credential !== 'mtls_certificate') return []
  const makesNone = value.backend === EMBEDDED || ownValue(backends, value.backend)?.kind === 'aws'
  return makesNone
    ? [
        problemsOf(located)(
          ['backend'],
          `The backend ${value.backend} makes no credentials.`,
          `Name one of kind vault: ${list(Object.keys(backends).filter((id) => backends[id]?.kind === 'vault'))}.`,
        ),
      ]
    : []
}

const checkProvided = (located: Located<ProvidedDownstream>, loaded: Loaded): Problem[] => {
  const provider = loaded.providers.get(located.value.provider)?.value
  return [
    ...checkProviderName(located, loaded.providers),
    ...checkClients(located, provider, loaded.settings.value),
    ...checkAuthorization(located, provider),
    ...checkAssertions(located, provider, loaded.tenants),
    ...bindingProblems(located, provider),
  ]
}

/** Every downstream: its tenants, provider, clients, injection and backend. */
export const checkDownstreams = (loaded: Loaded): Problem[] => {
  const settings = loaded.settings.value
  return [...loaded.downstreams.values()].flatMap((located) => [
    ...unknownTenants(located, located.value.tenants, loaded.tenants),
    ...(isProvided(located) ? checkProvided(located, loaded) : []),
    ...injectionProblems(located, (host) => settings.network.allow_loopback && isLoopback(host)),
    ...engineProblems(located),
    ...checkEngineBackend(located, settings.secrets),
  ])
}
