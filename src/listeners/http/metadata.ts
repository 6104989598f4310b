import { PROOF_ALGORITHMS } from '#identity/workload'
import { ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE, TXN_TOKEN_TYPE } from '#oauth'

export const TOKEN_EXCHANGE_GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange'
export const CLIENT_CREDENTIALS_GRANT = 'client_credentials'

export const paths = {
  metadata: '/.well-known/oauth-authorization-server',
  discovery: '/.well-known/openid-configuration',
  token: '/oauth2/token',
  authorize: '/oauth2/authorize',
  introspect: '/oauth2/introspect',
  revoke: '/oauth2/revoke',
  pushedAuthorization: '/oauth2/par',
  registration: '/oauth2/register',
  deviceAuthorization: '/oauth2/device_authorization',
  device: '/device',
  session: '/session',
  exec: '/exec',
  server: '/server',
  tools: '/tools',
  hostedTools: '/mcp/tools',
  hostedCall: '/mcp/call',
  jwks: '/.well-known/jwks.json',
  health: '/healthz',
  ready: '/readyz',
} as const

const AUTHORIZATION_PATHS: ReadonlySet<string> = new Set([
  paths.metadata,
  paths.discovery,
  paths.authorize,
  paths.pushedAuthorization,
  paths.registration,
  paths.revoke,
  paths.deviceAuthorization,
  paths.device,
])

/** Whether a path on the public address is one of the authorization server's, beside the token endpoint. */
export const isAuthorizationPath = (path: string): boolean =>
  AUTHORIZATION_PATHS.has(path) || path.startsWith(`${paths.authorize}/`) || path.startsWith(`${paths.device}/`)

/** Of client assertions. */
export const ASSERTION_ALGORITHMS = ['ES256', 'ES384', 'RS256', 'PS256', 'EdDSA']

/** A URL below an issuer, or below an address of a listener. */
const below = (base: string, path: string): string => `${base.replace(/\/$/, '')}${path}`

/** What every listener publishes: the keys with which Deputy signs. It has no sign-in and issues no authorization code. */
export const publicMetadataDocument = (issuer: string) => ({
  issuer,
  jwks_uri: below(issuer, paths.jwks),
  response_types_supported: [] as string[],
  grant_types_supported: [] as string[],
})

/**
 * Authorization server metadata (RFC 8414 section 2) of a local listener: its endpoints are at the address of the request,
 * which is the issuer in discovery (section 3.3). Tokens that Deputy mints name `issuer` of deputy.yaml.
 * @param base the address under which the caller has reached the listener
 * @param isSocket whether the kernel identifies the caller; then `none` is offered
 */
export const metadataDocument = (base: string, isSocket: boolean) => {
  const authentication = ['client_secret_basic', 'client_secret_post', 'private_key_jwt', ...(isSocket ? ['none'] : [])]
  return {
    ...publicMetadataDocument(base),
    token_endpoint: below(base, paths.token),
    introspection_endpoint: below(base, paths.introspect),
    revocation_endpoint: below(base, paths.revoke),
    grant_types_supported: [TOKEN_EXCHANGE_GRANT, CLIENT_CREDENTIALS_GRANT],
    token_endpoint_auth_methods_supported: authentication,
    token_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
    introspection_endpoint_auth_methods_supported: authentication,
    introspection_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
    revocation_endpoint_auth_methods_supported: authentication,
    revocation_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
    dpop_signing_alg_values_supported: PROOF_ALGORITHMS,
    requested_token_types_supported: [ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE, TXN_TOKEN_TYPE],
    subject_token_types_supported: [ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE],
  }
}

/**
 * The same as OpenID Connect Discovery 1.0 section 3 has it: clouds that trust tokens which Deputy signs read it
 * (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html). Nobody signs in here.
 */
export const discoveryDocument = (metadata: object) => ({
  ...metadata,
  response_types_supported: ['id_token'],
  subject_types_supported: ['public'],
  id_token_signing_alg_values_supported: ['RS256'],
})
