import { type Adapter, type AllClientMetadata, Provider } from 'oidc-provider'
import type { Snapshot } from '#config'
import { equalInConstantTime, Secret } from '#foundation/crypto'
import { type ClientMetadata, type ClientRegistry, hashOfRandomSecret, knownBy } from '#identity/client'
import type { CheckClientSecret } from '#identity/workload'
import { CLIENT_CREDENTIALS_GRANT } from '#listeners/http'
import { asLibraryError } from './library-error.ts'
import { noAdapter } from './no-adapter.ts'

/** Grants that need more of the library than a client's wish. */
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'

/**
 * A client as the library knows it. All are native to it (OpenID Connect Dynamic Client Registration section 2), whatever they say
 * of themselves: it leaves the port of loopback addresses free for such clients alone (RFC 8252 section 7.3).
 */
export const toLibrary = (
  { id, metadata, secret }: { readonly id: string; readonly metadata: ClientMetadata; readonly secret?: string },
  grantTypes: ReadonlySet<string>,
): AllClientMetadata => ({
  client_id: id,
  client_name: metadata.name ?? id,
  application_type: 'native',
  redirect_uris: metadata.redirectUris,
  response_types: metadata.grantTypes.includes('authorization_code') ? ['code'] : [],
  grant_types: metadata.grantTypes.filter((each) => grantTypes.has(each)),
  token_endpoint_auth_method: metadata.authentication,
  ...(metadata.jwks === undefined ? {} : { jwks: metadata.jwks as { keys: [] } }),
  ...(metadata.jwksUri === undefined ? {} : { jwks_uri: metadata.jwksUri }),
  ...(secret === undefined ? {} : { client_secret: secret }),
  ...(metadata.isBound ? { dpop_bound_access_tokens: true } : {}),
})

/** The grants that clients are given by this server. */
export const grantTypesOf = (isDeviceFlow: boolean): ReadonlySet<string> =>
  new Set(['authorization_code', 'refresh_token', ...(isDeviceFlow ? [DEVICE_GRANT] : [])])

/** Clients of files and of registrations. Those with a document are the library's own to resolve, with `documents.ts` behind it. */
export const clientAdapter = (
  registry: Pick<ClientRegistry, 'find' | 'recent'>,
  grantTypes: ReadonlySet<string>,
): Adapter => ({
  // Nothing of the library writes clients: it registers none.
  ...noAdapter,
  async find(id) {
    if (knownBy(id) === 'document') return undefined
    // What a client redeems at the token endpoint descends from a sign-in, which is asked for by itself.
    const client = await (Provider.ctx?.oidc?.route === 'token' ? registry.recent(id) : registry.find(id))
    // Agents get their tokens elsewhere, and no user signs in at them.
    if (client === undefined || client.metadata.grantTypes.includes(CLIENT_CREDENTIALS_GRANT)) return undefined
    return { ...toLibrary(client, grantTypes) }
  },
})

/** Compares secrets by their stored forms: the library is given no secret at all. */
export const compareSecrets = (provider: Provider, checkSecret: CheckClientSecret): void => {
  const client = provider.Client.prototype as unknown as {
    compareClientSecret: (this: { clientId: string; clientSecret?: string }, actual: string) => Promise<boolean>
  }
  client.compareClientSecret = async function (given) {
    const actual = new Secret(given)
    const stored = this.clientSecret ?? ''
    if (stored.startsWith('sha256$')) return equalInConstantTime(hashOfRandomSecret(actual), stored)
    try {
      return await checkSecret(actual, stored, this.clientId)
    } catch (error) {
      throw asLibraryError(error)
    }
  }
}

/** Where clients learn what Deputy takes of them: what the settings say, which change while the library runs. */
export const clientsInMetadata = (
  { settings }: Snapshot,
  registrationEndpoint: string,
): Readonly<Record<string, unknown>> => {
  const { metadata_documents: documents, registration } = settings.clients
  return {
    ...(documents.enabled ? { client_id_metadata_document_supported: true } : {}),
    ...(registration.enabled ? { registration_endpoint: registrationEndpoint } : {}),
  }
}
