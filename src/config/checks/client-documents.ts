import { documentOf, isOwnAddress, pagesUrlOf } from '../client-document.ts'
import { clientsOf, type OAuthClient } from '../downstream.ts'
import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import type { Provider } from '../provider.ts'
import type { Settings } from '../settings.ts'
import { problemsOf } from './names.ts'

/** Problems of a client whose id is a URL of Deputy's own, at which Deputy publishes the client's metadata document. */
export const documentProblems = (
  client: OAuthClient,
  provider: Provider | undefined,
  settings: Settings,
): { message: string; fix: string }[] => {
  const pagesUrl = pagesUrlOf(settings)
  if (!isOwnAddress(client, pagesUrl)) return []
  if (documentOf(client, pagesUrl) === undefined)
    return [
      {
        message: `There is no document of a client at ${client.client_id}.`,
        fix: `Write client_id: ${pagesUrl}/clients/NAME, with a name of your choice.`,
      },
    ]
  const problems: { message: string; fix: string }[] = []
  if (!pagesUrl.startsWith('https:') && !settings.network.allow_loopback)
    problems.push({
      message: `Providers read documents of clients over https only, and ${pagesUrl} is plain http.`,
      fix: 'Set connect_url in deputy.yaml to the https URL of the connect pages.',
    })
  const secret = (['client_secret', 'private_key', 'certificate'] as const).find((name) => client[name] !== undefined)
  if (secret !== undefined)
    problems.push({
      message: `A client that is known by its document signs with Deputy's own keys, and has no ${secret}.`,
      fix: `Remove ${secret}.`,
    })
  if (provider !== undefined && !['private_key_jwt', 'none'].includes(provider.client_authentication))
    problems.push({
      message: `A client that is known by its document shares no secret, and ${provider.provider} requires ${provider.client_authentication}.`,
      fix: "Write client_authentication: private_key_jwt, or none, in the provider's file.",
    })
  return problems
}

/** One document states one authentication method: a client that is used at two providers needs the same at both. */
export const checkDocuments = ({ downstreams, providers, settings }: Loaded): Problem[] => {
  const methods = new Map<string, string>()
  return [...downstreams.values()].flatMap((located) => {
    const { value } = located
    if (!('client' in value)) return []
    const method = providers.get(value.provider)?.value.client_authentication
    return clientsOf(value)
      .filter((client) => method !== undefined && documentOf(client, pagesUrlOf(settings.value)) !== undefined)
      .flatMap(({ client_id: id }) => {
        const known = methods.get(id) ?? method!
        methods.set(id, known)
        return known === method
          ? []
          : problemsOf(located)(
              ['provider'],
              `The document of the client ${id} would have to state both ${known} and ${method}.`,
              'Give the client another name at one of the two providers.',
            )
      })
  })
}
