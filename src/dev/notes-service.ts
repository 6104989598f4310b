/**
 * The service in the world that the author's server calls for its users: an OAuth provider with accounts of its own,
 * and the API behind it. Refresh tokens rotate, and the use of an old one ends the whole family.
 */
import type { JWK } from 'oidc-provider'
import { accountOf, SCOPES, SERVICE_CLIENT, USERS } from './facts.ts'
import { interactionsOf } from './identity-provider.ts'
import type { KeptRecords } from './kept-records.ts'
import { API_PATH, createNotesApi } from './notes-api.ts'
import { type OpenIdServer, startOpenIdServer } from './openid-server.ts'

export interface NotesServiceOptions {
  readonly port: number
  readonly key: JWK
  readonly cookieKey: string
  readonly secret: string
  /** Where connections come back to. */
  readonly redirectUri: string
  readonly records: KeptRecords
  /** False: it asks each time who signs in. */
  readonly remembersUsers: boolean
}

export interface NotesService extends OpenIdServer {
  /** Base address of the API. */
  readonly api: string
}

const DAY = 86_400

/** @throws Error of listen(2) */
export const startNotesService = async (options: NotesServiceOptions): Promise<NotesService> => {
  const { port, key, cookieKey, secret, redirectUri, records, remembersUsers } = options
  const server = await startOpenIdServer({
    title: 'Notes',
    users: Object.fromEntries(Object.keys(USERS).map((user) => [accountOf(user), {}])),
    port,
    key,
    serve: createNotesApi(records),
    configuration: {
      adapter: records.adapter,
      cookies: { keys: [cookieKey] },
      scopes: ['openid', 'offline_access', ...SCOPES],
      clients: [
        {
          client_id: SERVICE_CLIENT,
          client_secret: secret,
          redirect_uris: [redirectUri],
          application_type: 'native',
          grant_types: ['authorization_code', 'refresh_token'],
          response_types: ['code'],
          token_endpoint_auth_method: 'client_secret_basic',
        },
      ],
      interactions: interactionsOf(remembersUsers),
      rotateRefreshToken: true,
      issueRefreshToken: (_context, client) => Promise.resolve(client.grantTypeAllowed('refresh_token')),
      ttl: {
        Interaction: 600,
        Session: 3600,
        Grant: 90 * DAY,
        IdToken: 300,
        AccessToken: 300,
        RefreshToken: 90 * DAY,
        AuthorizationCode: 60,
      },
      features: { resourceIndicators: { enabled: false } },
    },
  })
  return { ...server, api: `${server.url}${API_PATH}` }
}
