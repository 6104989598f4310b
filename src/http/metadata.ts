import { ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE, TXN_TOKEN_TYPE } from '../connector/connector.ts'
import { PROOF_ALGORITHMS } from '../workload/proof-of-possession.ts'

export const TOKEN_EXCHANGE_GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange'
export const CLIENT_CREDENTIALS_GRANT = 'client_credentials'

export const paths = {
  metadata: '/.well-known/oauth-authorization-server',
  discovery: '/.well-known/openid-configuration',
  token: '/oauth2/token',
  authorize: '/oauth2/authorize',
  introspect: '/oauth2/introspect',
  revoke: '/oauth2/revoke',
  session: '/session',
  exec: '/exec',
  server: '/server',
  tools: '/tools',
  jwks: '/.well-known/jwks.json',
  health: '/healthz',
  ready: '/readyz',
} as const

const authentication = ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none']
const assertionAlgorithms = ['ES256', 'ES384', 'RS256', 'PS256', 'EdDSA']

/**
 * Authorization server metadata (RFC 8414 section 2). `none` stands for the Unix socket, where the kernel says who
 * calls. No client is given a code: users connect on the connect pages, not here.
 */
export const metadataDocument = (issuer: string) => {
  const at = (path: string): string => `${issuer.replace(/\/$/, '')}${path}`
  return {
    issuer,
    token_endpoint: at(paths.token),
    introspection_endpoint: at(paths.introspect),
    revocation_endpoint: at(paths.revoke),
    jwks_uri: at(paths.jwks),
    response_types_supported: [],
    grant_types_supported: [TOKEN_EXCHANGE_GRANT, CLIENT_CREDENTIALS_GRANT],
    token_endpoint_auth_methods_supported: authentication,
    token_endpoint_auth_signing_alg_values_supported: assertionAlgorithms,
    introspection_endpoint_auth_methods_supported: authentication,
    introspection_endpoint_auth_signing_alg_values_supported: assertionAlgorithms,
    revocation_endpoint_auth_methods_supported: authentication,
    revocation_endpoint_auth_signing_alg_values_supported: assertionAlgorithms,
    dpop_signing_alg_values_supported: PROOF_ALGORITHMS,
    requested_token_types_supported: [ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE, TXN_TOKEN_TYPE],
    subject_token_types_supported: [ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE],
  }
}

/**
 * The same as OpenID Connect Discovery 1.0 section 3 has it: clouds that trust tokens which Deputy signs read it
 * (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html). Nobody signs in here.
 */
export const discoveryDocument = (issuer: string) => ({
  ...metadataDocument(issuer),
  response_types_supported: ['id_token'],
  subject_types_supported: ['public'],
  id_token_signing_alg_values_supported: ['RS256'],
})
