import * as openid from 'openid-client'
import type { Provider } from '#config'
import { DeputyError, refuse } from '#errors'
import type { Egress } from '#foundation/outbound'
import { plainly } from './failure.ts'

/** Where an issuer publishes its metadata: OpenID Connect Discovery first, and RFC 8414 where there is no such document. */
const ALGORITHMS = ['oidc', 'oauth2'] as const

/**
 * What an issuer says about itself; that it names itself by the issuer asked for is checked (threat 7).
 * @throws DeputyError `provider_unavailable`, and those of egress
 */
export const readMetadata = async (
  issuer: string,
  options: {
    readonly provider: string
    readonly clientId: string
    readonly egress: Egress
    readonly allowInsecure: boolean
  },
): Promise<openid.ServerMetadata> => {
  let failure: unknown
  for (const algorithm of ALGORITHMS) {
    try {
      const configuration = await openid.discovery(new URL(issuer), options.clientId, undefined, openid.None(), {
        algorithm,
        execute: options.allowInsecure ? [openid.allowInsecureRequests] : [],
        [openid.customFetch]: options.egress as unknown as openid.CustomFetch,
      })
      return configuration.serverMetadata()
    } catch (thrown) {
      const error = plainly(thrown)
      if (error instanceof DeputyError) throw error
      failure ??= error
      const isAbsent =
        thrown instanceof openid.ClientError &&
        thrown.cause instanceof Response &&
        thrown.cause.status >= 400 &&
        thrown.cause.status < 500
      if (!isAbsent) break
    }
  }
  throw refuse(
    'provider_unavailable',
    { provider: options.provider, problem: 'its metadata could not be read', seconds: 5 },
    failure,
  )
}

const COMPARED = [
  'authorization_endpoint',
  'token_endpoint',
  'revocation_endpoint',
  'introspection_endpoint',
  'pushed_authorization_request_endpoint',
] as const

const list = (values: unknown): readonly string[] => (Array.isArray(values) ? values.map(String) : [])

/** How RFC 8414 names the ways in which clients authenticate that a provider file names; `secret_as_user` is none of them. */
const METHODS: Readonly<Record<Provider['client_authentication'], string | undefined>> = {
  client_secret_basic: 'client_secret_basic',
  client_secret_post: 'client_secret_post',
  private_key_jwt: 'private_key_jwt',
  tls_client_auth: 'tls_client_auth',
  none: 'none',
  secret_as_user: undefined,
}

/** Where a provider file says something else than the metadata that the provider publishes (RFC 8414 section 2). @returns a sentence each */
export const differences = (provider: Provider, metadata: openid.ServerMetadata): string[] => {
  const method = METHODS[provider.client_authentication]
  const methods =
    metadata.token_endpoint_auth_methods_supported === undefined
      ? ['client_secret_basic']
      : list(metadata.token_endpoint_auth_methods_supported)
  const offered = list(metadata.code_challenge_methods_supported).includes('S256')
  return [
    ...COMPARED.filter(
      (name) => provider[name] !== undefined && metadata[name] !== undefined && provider[name] !== metadata[name],
    ).map((name) => `${name} is ${String(metadata[name])} in its metadata`),
    ...(provider.pkce === 'S256' && provider.discovery && !offered
      ? ['its metadata does not say that it offers PKCE with S256, so that no user can connect']
      : []),
    ...(provider.pkce === 'unsupported' && offered ? ['its metadata says that it offers PKCE with S256'] : []),
    ...(provider.dpop !== 'never' && !list(metadata['dpop_signing_alg_values_supported']).includes('ES256')
      ? ['its metadata does not say that it binds tokens to keys (DPoP with ES256)']
      : []),
    ...(method !== undefined && !methods.includes(method)
      ? [`clients authenticate by ${methods.join(', ')}, says its metadata`]
      : []),
    ...(provider.discovery && provider.revocation !== 'none' && metadata.revocation_endpoint === undefined
      ? ['its metadata names no revocation_endpoint']
      : []),
    ...(provider.revocation === 'none' && metadata.revocation_endpoint !== undefined
      ? ['its metadata names a revocation_endpoint']
      : []),
    ...(!provider.discovery &&
    !provider.authorization_response_iss_parameter_supported &&
    metadata.authorization_response_iss_parameter_supported === true
      ? ['its answers carry `iss`, says its metadata']
      : []),
  ]
}

/** Ways in which Deputy can authenticate, the ones that need the least first. */
const PREFERRED = ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth', 'none'] as const

/** A line that may stand in a comment: what a server says about itself is not to end it. */
const onOneLine = (text: string): string => text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 200)

/** The text of a provider file for an issuer: what its metadata says, and comments for what that does not. */
export const draftOf = ({
  id,
  name,
  issuer,
  metadata,
}: {
  readonly id: string
  readonly name: string
  readonly issuer: string
  readonly metadata: openid.ServerMetadata
}): string => {
  const methods =
    metadata.token_endpoint_auth_methods_supported === undefined
      ? ['client_secret_basic']
      : list(metadata.token_endpoint_auth_methods_supported)
  const method = PREFERRED.find((each) => methods.includes(each))
  const quoted = (text: string): string => JSON.stringify(text)
  return [
    `# Written from the metadata that ${onOneLine(issuer)} publishes. What metadata does not say stands below as a comment: read the service's documentation for it.`,
    `provider: ${id}`,
    `name: ${quoted(name)}`,
    `issuer: ${quoted(issuer)}`,
    'discovery: true',
    ...(method === undefined
      ? [`# Its clients authenticate by ${onOneLine(methods.join(', '))}, of which Deputy can do none.`]
      : [`client_authentication: ${method}`]),
    ...(list(metadata.code_challenge_methods_supported).includes('S256')
      ? []
      : [
          '# It does not say that it offers PKCE with S256, without which no user can connect. If its documentation says that it does: discovery: false, and the endpoints.',
        ]),
    ...(list(metadata['dpop_signing_alg_values_supported']).includes('ES256')
      ? [
          '# It binds tokens to keys (RFC 9449). required instead of offered: only such tokens, which only the proxy can use.',
          'dpop: offered',
        ]
      : []),
    ...(metadata['client_id_metadata_document_supported'] === true
      ? [
          "# It reads what a client is at the client's id: a client of a downstream can be <connect_url>/clients/NAME, with private_key_jwt or none, and needs no registration.",
        ]
      : []),
    ...(list(metadata.scopes_supported).includes('offline_access')
      ? ['offline_scope: offline_access']
      : ['# Whether a scope or a parameter asks for a refresh token: offline_scope, authorization_parameters.']),
    '# Whether every refresh ends the refresh token before; this is the careful side. Whether a refresh with fewer scopes brings a token of less: narrows.',
    'refresh: { rotates: true }',
    ...(metadata.revocation_endpoint === undefined
      ? ['# It names no endpoint that ends tokens.', 'revocation: none']
      : ['revocation: rfc7009']),
    '# What its answers hold that servers need beside the token: response_fields.',
    'sources:',
    `  endpoints: ${quoted(issuer)}`,
    '',
  ].join('\n')
}

/** The endpoints that a provider file names (RFC 8414 section 2). */
export const endpointsOf = (provider: Provider): Partial<openid.ServerMetadata> => ({
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
export const metadataOf = (provider: Provider): openid.ServerMetadata => ({
  issuer: provider.issuer ?? provider.token_endpoint!,
  ...endpointsOf(provider),
  authorization_response_iss_parameter_supported: provider.authorization_response_iss_parameter_supported,
  ...(provider.pkce === 'S256' ? { code_challenge_methods_supported: ['S256'] } : {}),
})
