import { createHash } from 'node:crypto'
import { createLru } from '#foundation/lru'
import * as openid from 'openid-client'
import {
  clientFor,
  type CurrentSnapshot,
  documentOf,
  fillIn,
  neededVariables,
  pagesUrlOf,
  type ProvidedDownstream,
  type Provider,
  providerFor,
  wantsBound,
} from '#config'
import type { ResolveSecret } from '#credentials/secret'
import { refuse } from '#errors'
import { createProofKey, lengthPrefixed, type ProofKey } from '#foundation/crypto'
import type { Egress, Proofs } from '#foundation/outbound'
import { authenticate } from './authentication.ts'
import type { AssertClient } from './client-document.ts'
import { toBody, toStandardResponse } from './dialect.ts'
import { readMetadata } from './metadata.ts'
import type { Proof } from './token-answer.ts'

/** Deputy as a client of an OAuth service, for one tenant and downstream. */
export interface ProviderClient {
  readonly provider: Provider
  readonly clientId: string
  /** Whether it is known by a document that Deputy publishes at its id. */
  readonly hasDocument: boolean
  readonly server: openid.ServerMetadata
  /**
   * Changes when the client, the token endpoint or the resource does: a refresh token belongs to exactly these
   * (RFC 6749 section 6), so a grant of another generation has to be given anew.
   */
  readonly generation: string
  /**
   * A configuration for `openid-client`.
   * @param seen gets every answer's text, for what cannot be verified but must not be lost
   * @param proof what each request proves; such requests go through `withNonce`
   */
  configuration(seen?: (status: number, text: string) => void, proof?: Proof): openid.Configuration
  /** What requests for tokens of this downstream prove: nothing, or a key. @param key the one that the grant has, absent: a new one */
  proof(key?: ProofKey): Promise<Proof | undefined>
  /** A request to the provider; its answer is told in the words of the standard. */
  readonly fetch: Egress
  /** Proves who Deputy is by HTTP Basic, in a request that is none of the standard's. @throws DeputyError `provider_refused` when the client has no secret, those of secrets */
  authenticateBasic(headers: Headers): Promise<void>
}

export type ProviderClients = (downstream: ProvidedDownstream, tenant: string) => Promise<ProviderClient>

/** @see ProviderClient.generation */
export const generationOf = (clientId: string, tokenEndpoint: string, resource: string): string =>
  createHash('sha256')
    .update(lengthPrefixed(clientId, tokenEndpoint, resource))
    .digest('hex')
    .slice(0, 16)

const DISCOVERED = 3_600_000

/** The endpoints that a provider file names (RFC 8414 section 2). */
const endpointsOf = (provider: Provider): Partial<openid.ServerMetadata> => ({
  ...(provider.authorization_endpoint === undefined ? {} : { authorization_endpoint: provider.authorization_endpoint }),
  ...(provider.token_endpoint === undefined ? {} : { token_endpoint: provider.token_endpoint }),
  ...(provider.revocation_endpoint === undefined ? {} : { revocation_endpoint: provider.revocation_endpoint }),
  ...(provider.introspection_endpoint === undefined ? {} : { introspection_endpoint: provider.introspection_endpoint }),
  ...(provider.pushed_authorization_request_endpoint === undefined
    ? {}
    : { pushed_authorization_request_endpoint: provider.pushed_authorization_request_endpoint }),
  ...(provider.mtls_token_endpoint === undefined
    ? {}
    : { mtls_endpoint_aliases: { token_endpoint: provider.mtls_token_endpoint } }),
})

/** The provider file's facts as authorization server metadata. */
const metadataOf = (provider: Provider): openid.ServerMetadata => ({
  issuer: provider.issuer ?? provider.token_endpoint!,
  ...endpointsOf(provider),
  authorization_response_iss_parameter_supported: provider.authorization_response_iss_parameter_supported,
  ...(provider.pkce === 'S256' ? { code_challenge_methods_supported: ['S256'] } : {}),
})

const isHttp = (url: string | undefined): boolean =>
  url !== undefined && ['https:', 'http:'].includes(URL.parse(url)?.protocol ?? '')

/**
 * Sends a request once more if the server has said which nonce it wants in its proof (RFC 9449 section 8). All of it is made anew,
 * because what authenticates the client is good for one request as well.
 */
export const withNonce = async <T>(proof: Proof | undefined, request: () => Promise<T>): Promise<T> => {
  try {
    return await request()
  } catch (error) {
    if (
      proof === undefined ||
      !(error instanceof openid.ResponseBodyError) ||
      error.error !== 'use_dpop_nonce' ||
      error.response.headers.get('dpop-nonce') === null
    )
      throw error
    return request()
  }
}

/**
 * Finds the client for a downstream: the facts of its provider file, or the metadata that the service publishes.
 * @throws DeputyError `provider_unavailable`, `provider_refused` (PKCE is not offered, an endpoint is no http(s) URL, the client has not what its authentication needs)
 */
export const createProviderClients = (options: {
  snapshot: CurrentSnapshot
  egress: Egress
  proofs: Proofs
  assertClient: AssertClient
  resolveSecret: ResolveSecret
}): ProviderClients => {
  const discovered = createLru<string, openid.ServerMetadata>({ max: 500, ttl: DISCOVERED })

  const discover = async (provider: Provider, clientId: string): Promise<openid.ServerMetadata> => {
    const key = `${options.snapshot().generation} ${provider.provider} ${provider.issuer}`
    const known = discovered.get(key)
    if (known !== undefined) return known
    const server = await readMetadata(provider.issuer!, {
      provider: provider.provider,
      clientId,
      egress: options.egress,
      allowInsecure: options.snapshot().settings.network.allow_loopback,
    })
    discovered.set(key, server)
    return server
  }

  /** MCP authorization: without S256 in the metadata, stop; only a provider file can say that a service has no PKCE (threats 5 and 9). */
  const assertUsable = (provider: Provider, server: openid.ServerMetadata, forUsers: boolean): void => {
    const methods: unknown = server.code_challenge_methods_supported
    if (forUsers && provider.pkce === 'S256' && !(Array.isArray(methods) && methods.includes('S256'))) {
      throw refuse('provider_refused', { provider: provider.provider, problem: 'it does not offer PKCE with S256' })
    }
    if ((forUsers && !isHttp(server.authorization_endpoint)) || !isHttp(server.token_endpoint)) {
      throw refuse('provider_refused', {
        provider: provider.provider,
        problem: 'its endpoints are no http or https URLs',
      })
    }
  }

  return async (downstream, tenant) => {
    const { providers, settings } = options.snapshot()
    const file = providers.get(downstream.provider)
    if (file === undefined) throw refuse('target_unknown', { target: downstream.downstream, server: 'any server' })
    const client = clientFor(downstream, tenant)
    const { client_id: clientId } = client
    const unsaid = neededVariables(file).find((name) => !Object.hasOwn(client.variables, name))
    if (unsaid !== undefined)
      throw refuse('provider_refused', {
        provider: file.provider,
        problem: `the client ${clientId} does not say which ${unsaid}`,
      })
    const provider = providerFor(file, client.variables)
    const found = provider.discovery
      ? { ...(await discover(provider, clientId)), ...endpointsOf(provider) }
      : metadataOf(provider)
    const server =
      found.revocation_endpoint === undefined
        ? found
        : {
            ...found,
            revocation_endpoint: fillIn(found.revocation_endpoint, { client_id: encodeURIComponent(clientId) }),
          }
    assertUsable(provider, server, downstream.credential === 'oauth_grant')
    const hasDocument = documentOf(client, pagesUrlOf(settings)) !== undefined
    if (hasDocument && provider.discovery && server['client_id_metadata_document_supported'] !== true)
      throw refuse('provider_refused', {
        provider: provider.provider,
        problem: 'it does not say that it takes documents for client ids (client_id_metadata_document_supported)',
      })
    const { authentication, certificate } = await authenticate({
      provider,
      server,
      client,
      assertion: hasDocument ? (audience) => options.assertClient(clientId, audience) : undefined,
      resolve: (reference) => options.resolveSecret(reference, tenant),
    })
    const ask =
      (seen?: (status: number, text: string) => void, proof?: Proof): Egress =>
      async (url, init = {}) => {
        const headers = new Headers(init.headers)
        for (const [name, value] of Object.entries(provider.token_requests.headers)) headers.set(name, value)
        const form = init.body instanceof URLSearchParams ? init.body : undefined
        const told = form === undefined ? undefined : toBody(provider, form)
        if (told !== undefined) headers.set('content-type', told.type)
        const to = form?.get('grant_type') === 'refresh_token' ? (provider.refresh_endpoint ?? url) : url
        if (proof !== undefined)
          headers.set('dpop', options.proofs.prove(proof.key, { method: init.method ?? 'GET', url: String(to) }))
        const response = await options.egress(to, {
          ...init,
          headers,
          ...(told === undefined ? {} : { body: told.body }),
          ...(certificate === undefined ? {} : { certificate }),
        })
        if (proof !== undefined) options.proofs.note(String(to), response.headers.get('dpop-nonce'))
        return toStandardResponse(provider, response, await response.text(), {
          grantType: form?.get('grant_type') ?? undefined,
          seen,
        })
      }
    return {
      provider,
      clientId,
      hasDocument,
      server,
      generation: generationOf(clientId, server.token_endpoint ?? '', downstream.resource ?? ''),
      fetch: ask(),
      async authenticateBasic(headers) {
        if (client.client_secret === undefined)
          throw refuse('provider_refused', {
            provider: provider.provider,
            problem: `the client ${clientId} has no client_secret, which its way of revocation needs`,
          })
        openid.ClientSecretBasic((await options.resolveSecret(client.client_secret, tenant)).reveal())(
          server,
          { client_id: clientId },
          new URLSearchParams(),
          headers,
        )
      },
      proof: async (key) =>
        wantsBound(downstream, provider)
          ? { key: key ?? (await createProofKey()), required: provider.dpop === 'required' }
          : undefined,
      configuration(seen, proof) {
        const configuration = new openid.Configuration(
          server,
          clientId,
          certificate === undefined ? undefined : { use_mtls_endpoint_aliases: true },
          authentication,
        )
        if (settings.network.allow_loopback) openid.allowInsecureRequests(configuration)
        configuration[openid.customFetch] = ask(seen, proof) as unknown as openid.CustomFetch
        return configuration
      },
    }
  }
}
