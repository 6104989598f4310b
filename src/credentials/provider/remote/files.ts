import { stringify } from 'yaml'
import { CREDENTIAL, scopeSchema } from '#config'
import type { AuthorizationServer } from './authorization-server.ts'
import type { ProtectedResource } from './protected-resource.ts'

/** What both files are made of. */
export interface RemoteFacts {
  /** Of the provider and of the downstream. */
  readonly id: string
  readonly name: string
  /** The MCP server, as the admin named it. */
  readonly url: string
  readonly resource: ProtectedResource
  readonly server: AuthorizationServer
  readonly client: {
    readonly clientId: string
    readonly authentication: string
    /** Name of the secret in the embedded backend; undefined: the client shares none. */
    readonly secretName: string | undefined
  }
  readonly tenants: '*' | readonly string[]
  /** Scopes with their descriptions. */
  readonly scopes: Readonly<Record<string, string>>
}

/** Scopes that a file can name; the scope for refresh tokens is requested by the provider file. */
export const usableScopes = (scopes: readonly string[]): string[] =>
  scopes.filter((scope) => scope !== 'offline_access' && scopeSchema.safeParse(scope).success)

const withComment = (comment: string, content: object): string =>
  `${comment
    .split('\n')
    .map((line) => `# ${line}\n`)
    .join('')}${stringify(content, { lineWidth: 0 })}`

/**
 * The provider file of a remote MCP server's authorization server. It has the endpoints that were checked, not `discovery: true`: where tokens
 * go is then changed by an admin, and `deputy provider check --online` shows what the server changes.
 */
export const remoteProviderText = ({ id, name, url, resource, server, client }: RemoteFacts): string => {
  const isOffline = server.scopes_supported?.includes('offline_access') === true
  return withComment(
    `The authorization server of the MCP server ${url}, from its metadata.\nCompare it later with: deputy provider check ${id} --online`,
    {
      provider: id,
      name,
      issuer: server.issuer,
      authorization_endpoint: server.authorization_endpoint,
      token_endpoint: server.token_endpoint,
      ...(server.revocation_endpoint === undefined
        ? {}
        : { revocation_endpoint: server.revocation_endpoint, revocation: 'rfc7009' }),
      ...(server.introspection_endpoint === undefined ? {} : { introspection_endpoint: server.introspection_endpoint }),
      ...(server.pushed_authorization_request_endpoint === undefined
        ? {}
        : {
            pushed_authorization_request_endpoint: server.pushed_authorization_request_endpoint,
            ...(server.require_pushed_authorization_requests === true ? { par: 'required' } : {}),
          }),
      authorization_response_iss_parameter_supported: server.authorization_response_iss_parameter_supported === true,
      client_authentication: client.authentication,
      pkce: 'S256',
      redirect_uri: 'own',
      dpop: dpopOf(resource, server),
      // OpenID Connect Core section 11: the scope counts with a new consent only.
      ...(isOffline ? { offline_scope: 'offline_access', authorization_parameters: { prompt: 'consent' } } : {}),
      // Metadata does not state it: the side on which nothing is lost.
      refresh: { rotates: true },
      sources: { endpoints: server.source, resource: resource.source },
    },
  )
}

const dpopOf = (resource: ProtectedResource, server: AuthorizationServer): ProtectedResource['dpop'] =>
  resource.dpop === 'required' || server.dpop_signing_alg_values_supported?.includes('ES256') === true
    ? resource.dpop
    : 'never'

/** The downstream file: the user's own token for the server, which only the proxy uses. */
export const remoteDownstreamText = ({ id, name, url, resource, client, tenants, scopes }: RemoteFacts): string => {
  const { origin, pathname } = new URL(url)
  return withComment(`The MCP server ${url}. The proxy adds the token of the user to requests (docs/remote-mcp.md).`, {
    downstream: id,
    name,
    credential: 'oauth_grant',
    provider: id,
    tenants,
    client: {
      client_id: client.clientId,
      ...(client.secretName === undefined ? {} : { client_secret: { secret: client.secretName } }),
    },
    resource: resource.resource,
    scopes,
    // A server that lists no scopes decides alone what a token has: nothing can be requested, and nothing compared.
    ...(Object.keys(scopes).length === 0 ? { over_scoped: 'mark' } : {}),
    inject: {
      hosts: [origin],
      ...(pathname === '/' ? {} : { paths: [pathname] }),
      as: { header: 'Authorization', value: `Bearer ${CREDENTIAL}` },
      only: true,
    },
  })
}
