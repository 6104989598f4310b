/**
 * The OAuth service of a downstream API: a second real oidc-provider with users of its own.
 * 1. `startOAuthService({ redirectUris })` has the confidential client `deputy` (`SERVICE_CLIENT`).
 * 2. Refresh tokens rotate; using an old one ends the whole family. A refresh with `scope` narrows.
 * 3. `API_CLIENT` is the API's own client, with which it introspects.
 */
import { startOpenIdServer, type OpenIdServer, type PeerUser } from './openid-server.ts'

export const SERVICE_CLIENT = { client_id: 'deputy', client_secret: 'deputy-service-secret' } as const
export const API_CLIENT = { client_id: 'notes-api', client_secret: 'notes-api-secret' } as const

export interface OAuthService extends OpenIdServer {
  readonly issuer: string
}
export interface OAuthServiceOptions {
  readonly redirectUris: readonly string[]
  readonly users?: Readonly<Record<string, PeerUser>>
  /** Seconds; default 60. */
  readonly accessTokenTtl?: number
}

export const startOAuthService = async (options: OAuthServiceOptions): Promise<OAuthService> => {
  const server = await startOpenIdServer({
    title: 'Notes',
    users: options.users ?? { 'alice-notes': {}, 'bob-notes': {} },
    configuration: {
      scopes: ['openid', 'offline_access', 'notes:read', 'notes:write'],
      clients: [
        {
          ...SERVICE_CLIENT,
          redirect_uris: [...options.redirectUris],
          application_type: 'native',
          grant_types: ['authorization_code', 'refresh_token'],
          response_types: ['code'],
          token_endpoint_auth_method: 'client_secret_basic',
        },
        { ...API_CLIENT, redirect_uris: [], grant_types: [], response_types: [] },
      ],
      rotateRefreshToken: true,
      issueRefreshToken: (_context, client) => Promise.resolve(client.grantTypeAllowed('refresh_token')),
      ttl: {
        Interaction: 600,
        Session: 3600,
        Grant: 86_400,
        IdToken: 300,
        AccessToken: options.accessTokenTtl ?? 60,
        RefreshToken: 86_400,
        AuthorizationCode: 60,
      },
      features: { introspection: { enabled: true, allowedPolicy: () => true }, resourceIndicators: { enabled: false } },
    },
  })
  return { ...server, issuer: server.url }
}
