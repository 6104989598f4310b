/**
 * The company's identity provider: a real oidc-provider.
 * 1. `startCompanyIdp({ resources })` knows alice and bob, and issues JWT access tokens (RFC 9068, ES256) for the resources.
 * 2. `signIn({ idp, user, resource })` walks the authorization code flow with PKCE over HTTP and returns the tokens.
 * 3. Client `mcp-client` (public) is for `signIn`; `deputy` (secret `deputy-sign-in-secret`) for the connect pages.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { ClientMetadata } from 'oidc-provider'
import { startOpenIdServer, walkAuthorization, type OpenIdServer, type PeerUser } from './openid-server.ts'

export const SIGN_IN_CLIENT = { client_id: 'deputy', client_secret: 'deputy-sign-in-secret' } as const
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'
const MCP_CLIENT = { client_id: 'mcp-client', redirect_uri: 'http://127.0.0.1:1/mcp-client' } as const

export interface CompanyIdp extends OpenIdServer {
  readonly issuer: string
}
export interface CompanyIdpOptions {
  /** Resource URIs of the MCP servers for which access tokens may be issued. */
  readonly resources: readonly string[]
  readonly users?: Readonly<Record<string, PeerUser>>
  /** Redirect URIs of the client `deputy`. */
  readonly redirectUris?: readonly string[]
  readonly clients?: readonly ClientMetadata[]
  /** Seconds; default 300. */
  readonly accessTokenTtl?: number
  /** Scopes that access tokens may have; default `mcp`. */
  readonly scope?: string
  /** The client `deputy` may use the device grant (RFC 8628), and is told to ask each second; default false. */
  readonly device?: boolean
  /** Clients may register themselves (RFC 7591); default false. */
  readonly registration?: boolean
}

const USERS = {
  alice: { groups: ['engineering'], email: 'alice@company.example' },
  bob: { groups: ['sales'], email: 'bob@company.example' },
}

export const startCompanyIdp = async (options: CompanyIdpOptions): Promise<CompanyIdp> => {
  const users: Readonly<Record<string, PeerUser>> = options.users ?? USERS
  const server = await startOpenIdServer({
    title: 'Company',
    users,
    configuration: {
      scopes: ['openid', 'email', 'offline_access', ...(options.scope?.split(' ') ?? [])],
      clients: [
        {
          client_id: MCP_CLIENT.client_id,
          redirect_uris: [MCP_CLIENT.redirect_uri],
          token_endpoint_auth_method: 'none',
          application_type: 'native',
          grant_types: ['authorization_code'],
          response_types: ['code'],
        },
        ...(options.redirectUris === undefined
          ? []
          : [
              {
                ...SIGN_IN_CLIENT,
                redirect_uris: [...options.redirectUris],
                application_type: options.redirectUris.every((uri) => uri.startsWith('https:'))
                  ? ('web' as const)
                  : ('native' as const),
                grant_types: ['authorization_code', ...(options.device === true ? [DEVICE_GRANT] : [])],
                response_types: ['code' as const],
              },
            ]),
        ...(options.clients ?? []),
      ],
      // What a client may ask for later is more than what it knew when it registered.
      extraClientMetadata: {
        properties: ['scope_at_registration'],
        validator: (_context, _property, _value, metadata) => {
          delete metadata.scope
        },
      },
      extraTokenClaims: (_context, token) => {
        const user = 'accountId' in token ? users[token.accountId] : undefined
        return user === undefined ? undefined : { groups: [...(user.groups ?? [])] }
      },
      features: {
        introspection: { enabled: true, allowedPolicy: () => true },
        registration: { enabled: options.registration === true },
        deviceFlow: { enabled: options.device === true },
        resourceIndicators: {
          enabled: true,
          useGrantedResource: () => true,
          getResourceServerInfo: (_context, resource) => {
            if (!options.resources.includes(resource)) throw new Error(`unknown resource ${resource}`)
            return {
              scope: options.scope ?? 'mcp',
              audience: resource,
              accessTokenTTL: options.accessTokenTtl ?? 300,
              accessTokenFormat: 'jwt',
              jwt: { sign: { alg: 'ES256' } },
            }
          },
        },
      },
    },
  })
  return { ...server, issuer: server.url }
}

/** A user's real access token for a resource. */
export const signIn = async (options: {
  idp: Pick<CompanyIdp, 'url'>
  user: string
  resource: string
}): Promise<{ accessToken: string; idToken: string }> => {
  const verifier = randomBytes(32).toString('base64url')
  const state = randomBytes(16).toString('base64url')
  const authorization = new URL('/auth', options.idp.url)
  authorization.search = new URLSearchParams({
    client_id: MCP_CLIENT.client_id,
    redirect_uri: MCP_CLIENT.redirect_uri,
    response_type: 'code',
    scope: 'openid mcp',
    resource: options.resource,
    state,
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
  }).toString()
  const back = await walkAuthorization({
    authorizationUrl: authorization.href,
    redirectUri: MCP_CLIENT.redirect_uri,
    user: options.user,
  })
  const code = back.searchParams.get('code')
  if (code === null || back.searchParams.get('state') !== state) throw new Error(`no code came back: ${back.search}`)
  const response = await fetch(new URL('/token', options.idp.url), {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'authorization_code',
      client_id: MCP_CLIENT.client_id,
      redirect_uri: MCP_CLIENT.redirect_uri,
      code,
      code_verifier: verifier,
      resource: options.resource,
    }),
  })
  const answer = (await response.json()) as { access_token?: string; id_token?: string }
  if (answer.access_token === undefined || answer.id_token === undefined)
    throw new Error(`no token: ${response.status} ${JSON.stringify(answer)}`)
  return { accessToken: answer.access_token, idToken: answer.id_token }
}
