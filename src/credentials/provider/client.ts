import { createHash } from 'node:crypto'
import { createLru } from '#foundation/lru'
import * as openid from 'openid-client'
import {
  clientFor,
  type CurrentSnapshot,
  documentOf,
  fillIn,
  neededVariables,
  type OAuthClient,
  pagesUrlOf,
  type ProvidedDownstream,
  type Provider,
  providerFor,
  type Tenant,
  wantsBound,
} from '#config'
import type { ResolveSecret } from '#credentials/secret'
import { refuse } from '#errors'
import { createProofKey, lengthPrefixed, type ProofKey } from '#foundation/crypto'
import type { ClientCertificate, Egress, Proofs } from '#foundation/outbound'
import { authenticate } from './authentication.ts'
import type { AssertClient } from './client-document.ts'
import { toBody, toStandardResponse } from './dialect.ts'
import { endpointsOf, metadataOf, readMetadata } from './metadata.ts'
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
   * (RFC 6749 section 6), so the user has to connect a grant of another generation again.
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
  /** A request to the provider; its answer comes in the form of the standard. */
  readonly fetch: Egress
  /** Authenticates Deputy by HTTP Basic, in a request outside the standard. @throws DeputyError `provider_refused` when the client has no secret, those of secrets */
  authenticateBasic(headers: Headers): Promise<void>
}

export type ProviderClients = (downstream: ProvidedDownstream, tenant: string) => Promise<ProviderClient>

/** @see ProviderClient.generation */
export const generationOf = (clientId: string, tokenEndpoint: string, resource: string): string =>
  createHash('sha256')
    .update(lengthPrefixed(clientId, tokenEndpoint, resource))
    .digest('hex')
    .slice(0, 16)

const METADATA_TTL_MS = 3_600_000

const isHttp = (url: string | undefined): boolean =>
  url !== undefined && ['https:', 'http:'].includes(URL.parse(url)?.protocol ?? '')

/**
 * Sends a request once more if the server has named the nonce that its proof needs (RFC 9449 section 8). The whole request is made
 * anew, because the client's authentication is valid for one request as well.
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

export interface ProviderClientsOptions {
  readonly snapshot: CurrentSnapshot
  readonly egress: Egress
  readonly proofs: Proofs
  readonly assertClient: AssertClient
  readonly resolveSecret: ResolveSecret
}

/**
 * Finds the client for a downstream: the facts of its provider file, or the metadata that the service publishes.
 * @throws DeputyError `provider_unavailable`, `provider_refused` (PKCE is not offered, an endpoint is no http(s) URL, the client lacks what its authentication needs)
 */
export const createProviderClients = (options: ProviderClientsOptions): ProviderClients => {
  const make = createClients(options)
  return async (downstream, tenant) => {
    const file = options.snapshot().providers.get(downstream.provider)
    if (file === undefined) throw refuse('target_unknown', { target: downstream.downstream, server: 'any server' })
    return make({
      file,
      tenant,
      client: clientFor(downstream, tenant),
      isForUsers: downstream.credential === 'oauth_grant',
      resource: downstream.resource,
      isBound: (provider) => wantsBound(downstream, provider),
    })
  }
}

/** Deputy's client for the sign-in of a tenant's users at a plain OAuth provider. @throws as `createProviderClients`, and `connect_invalid` */
export const createSignInClients = (options: ProviderClientsOptions): ((tenant: Tenant) => Promise<ProviderClient>) => {
  const make = createClients(options)
  return async ({ tenant, sign_in: signIn }) => {
    const file = signIn?.provider === undefined ? undefined : options.snapshot().providers.get(signIn.provider)
    if (signIn === undefined || file?.sign_in === undefined)
      throw refuse('connect_invalid', { problem: `the tenant ${tenant} has no sign-in` })
    return make({ file, tenant, client: signIn, isForUsers: true, resource: undefined, isBound: () => false })
  }
}

/** For what a client is needed. */
interface ClientUse {
  readonly file: Provider
  readonly tenant: string
  readonly client: OAuthClient
  readonly isForUsers: boolean
  readonly resource: string | undefined
  /** Whether its tokens are bound to a key of Deputy's. */
  readonly isBound: (provider: Provider) => boolean
}

const createClients = (options: ProviderClientsOptions): ((use: ClientUse) => Promise<ProviderClient>) => {
  const discover = createDiscovery(options)
  return async ({ file, tenant, client, isForUsers, resource, isBound }) => {
    const { settings } = options.snapshot()
    const provider = withVariables(file, client)
    const found = provider.discovery
      ? { ...(await discover(provider, client.client_id)), ...endpointsOf(provider) }
      : metadataOf(provider)
    const server = withClientId(found, client.client_id)
    assertUsable(provider, server, isForUsers)
    const hasDocument = documentOf(client, pagesUrlOf(settings)) !== undefined
    if (hasDocument) assertTakesDocuments(provider, server)
    const { authentication, certificate } = await authenticate({
      provider,
      server,
      client,
      assertion: hasDocument ? (audience) => options.assertClient(client.client_id, audience) : undefined,
      resolve: (reference) => options.resolveSecret(reference, tenant),
    })
    return clientWith({
      options,
      resource,
      isBound: isBound(provider),
      tenant,
      client,
      provider,
      server,
      hasDocument,
      allowInsecure: settings.network.allow_loopback,
      authentication,
      certificate,
    })
  }
}

/** What the client for a downstream and tenant is made of. */
interface ClientParts {
  readonly options: ProviderClientsOptions
  readonly resource: string | undefined
  readonly isBound: boolean
  readonly tenant: string
  readonly client: OAuthClient
  readonly provider: Provider
  readonly server: openid.ServerMetadata
  readonly hasDocument: boolean
  readonly allowInsecure: boolean
  readonly authentication: openid.ClientAuth
  readonly certificate: ClientCertificate | undefined
}

const clientWith = (parts: ClientParts): ProviderClient => {
  const { provider, server, client, hasDocument, certificate } = parts
  const { client_id: clientId } = client
  return {
    provider,
    clientId,
    hasDocument,
    server,
    generation: generationOf(clientId, server.token_endpoint ?? '', parts.resource ?? ''),
    fetch: fetchFor(parts),
    authenticateBasic: (headers) => authenticateBasic(parts, headers),
    proof: async (key) =>
      parts.isBound ? { key: key ?? (await createProofKey()), required: provider.dpop === 'required' } : undefined,
    configuration(seen, proof) {
      const configuration = new openid.Configuration(
        server,
        clientId,
        certificate === undefined ? undefined : { use_mtls_endpoint_aliases: true },
        parts.authentication,
      )
      if (parts.allowInsecure) openid.allowInsecureRequests(configuration)
      configuration[openid.customFetch] = fetchFor(parts, seen, proof) as unknown as openid.CustomFetch
      return configuration
    },
  }
}

/** Requests in the provider's dialect, with the client's certificate and proof; answers in the form of the standard. */
const fetchFor =
  (
    { options, provider, certificate }: ClientParts,
    seen?: (status: number, text: string) => void,
    proof?: Proof,
  ): Egress =>
  async (url, init = {}) => {
    const headers = new Headers(init.headers)
    for (const [name, value] of Object.entries(provider.token_requests.headers)) headers.set(name, value)
    const form = init.body instanceof URLSearchParams ? init.body : undefined
    const body = form === undefined ? undefined : toBody(provider, form)
    if (body !== undefined) headers.set('content-type', body.type)
    const to = form?.get('grant_type') === 'refresh_token' ? (provider.refresh_endpoint ?? url) : url
    if (proof !== undefined)
      headers.set('dpop', options.proofs.prove(proof.key, { method: init.method ?? 'GET', url: String(to) }))
    const response = await options.egress(to, {
      ...init,
      headers,
      ...(body === undefined ? {} : { body: body.body }),
      ...(certificate === undefined ? {} : { certificate }),
    })
    if (proof !== undefined) options.proofs.note(String(to), response.headers.get('dpop-nonce'))
    return toStandardResponse(provider, response, await response.text(), {
      grantType: form?.get('grant_type') ?? undefined,
      seen,
    })
  }

const authenticateBasic = async (parts: ClientParts, headers: Headers): Promise<void> => {
  const { options, tenant, client, provider } = parts
  const { client_id: clientId, client_secret: secret } = client
  if (secret === undefined)
    throw refuse('provider_refused', {
      provider: provider.provider,
      problem: `the client ${clientId} has no client_secret, which its way of revocation needs`,
    })
  // RFC 7617, as APIs read it: only OAuth's endpoints decode what RFC 6749 section 2.3.1 encodes, such as the dot of `Iv1.1a2b`.
  const login = `${clientId}:${(await options.resolveSecret(secret, tenant)).reveal()}`
  headers.set('authorization', `Basic ${Buffer.from(login).toString('base64')}`)
}

/** Reads the metadata that a service publishes, and remembers it for an hour. */
const createDiscovery = (options: Pick<ProviderClientsOptions, 'snapshot' | 'egress'>) => {
  const discovered = createLru<string, openid.ServerMetadata>({ max: 500, ttl: METADATA_TTL_MS })
  return async (provider: Provider, clientId: string): Promise<openid.ServerMetadata> => {
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
}

/** The provider with the client's variables filled in. @throws DeputyError `provider_refused` where the client lacks one */
const withVariables = (file: Provider, { client_id: clientId, variables }: OAuthClient): Provider => {
  const missing = neededVariables(file).find((name) => !Object.hasOwn(variables, name))
  if (missing !== undefined)
    throw refuse('provider_refused', {
      provider: file.provider,
      problem: `the client ${clientId} does not say which ${missing}`,
    })
  return providerFor(file, variables)
}

const withClientId = (server: openid.ServerMetadata, clientId: string): openid.ServerMetadata =>
  server.revocation_endpoint === undefined
    ? server
    : {
        ...server,
        revocation_endpoint: fillIn(server.revocation_endpoint, { client_id: encodeURIComponent(clientId) }),
      }

/** MCP authorization: without S256 in the metadata, stop; only a provider file can say that a service has no PKCE (threats 5 and 9). */
const assertUsable = (provider: Provider, server: openid.ServerMetadata, forUsers: boolean): void => {
  const methods: unknown = server.code_challenge_methods_supported
  if (forUsers && provider.pkce === 'S256' && !(Array.isArray(methods) && methods.includes('S256')))
    throw refuse('provider_refused', { provider: provider.provider, problem: 'it does not offer PKCE with S256' })
  if ((forUsers && !isHttp(server.authorization_endpoint)) || !isHttp(server.token_endpoint))
    throw refuse('provider_refused', {
      provider: provider.provider,
      problem: 'its endpoints are no http or https URLs',
    })
}

const assertTakesDocuments = (provider: Provider, server: openid.ServerMetadata): void => {
  if (provider.discovery && server['client_id_metadata_document_supported'] !== true)
    throw refuse('provider_refused', {
      provider: provider.provider,
      problem: 'it does not say that it takes documents for client ids (client_id_metadata_document_supported)',
    })
}
