/**
 * An OAuth service as they are to be from now on: a real oidc-provider over TLS that
 * 1. takes authorization requests by PAR alone (RFC 9126) and wants PKCE;
 * 2. binds tokens to keys (RFC 9449) and wants its nonces in proofs, from the clients that say `dpop_bound_access_tokens`;
 * 3. issues JWTs (RFC 9068) for the resource that was asked for (RFC 8707), and refresh tokens that rotate;
 * 4. knows clients by their keys (private_key_jwt), their certificates (RFC 8705), or the document at their id (CIMD).
 */
import { randomBytes, X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import type { ClientMetadata } from 'oidc-provider'
import type { Issued, TestAuthority } from '../support/certificates.ts'
import { startOpenIdServer, type OpenIdServer } from './openid-server.ts'

export interface ModernServiceOptions {
  readonly authority: TestAuthority
  /** Of its TLS. */
  readonly certificate: Issued
  /** Resources for which it issues tokens. */
  readonly resources: readonly string[]
  readonly clients: readonly ClientMetadata[]
  /** Seconds. */
  readonly accessTokenTtl?: number
}

/** `requests`: what it has answered, in their order. */
export interface ModernService extends OpenIdServer {
  readonly issuer: string
  readonly requests: { readonly path: string; readonly status: number }[]
}

export const startModernService = async ({
  authority,
  certificate,
  resources,
  clients,
  accessTokenTtl = 60,
}: ModernServiceOptions): Promise<ModernService> => {
  const requests: { path: string; status: number }[] = []
  const server = await startOpenIdServer({
    title: 'Notes',
    users: { 'alice-notes': {}, 'bob-notes': {} },
    tls: { cert: certificate.certificate, key: certificate.key, ca: authority.certificate },
    answered: (path, status) => {
      requests.push({ path, status })
    },
    configuration: {
      scopes: ['openid', 'offline_access', 'notes:read', 'notes:write'],
      clientAuthMethods: ['none', 'private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth'],
      clients: [...clients],
      rotateRefreshToken: true,
      issueRefreshToken: (_context, client) => Promise.resolve(client.grantTypeAllowed('refresh_token')),
      // Its own connections refuse loopback, where all of this is.
      fetch: (url, init) => fetch(url, { ...init, dispatcher: undefined } as unknown as RequestInit),
      features: {
        dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
        pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: true },
        clientCredentials: { enabled: true },
        clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
        resourceIndicators: {
          enabled: true,
          useGrantedResource: () => true,
          getResourceServerInfo: (_context, resource) => {
            if (!resources.includes(resource)) throw new Error(`unknown resource ${resource}`)
            return {
              scope: 'notes:read notes:write',
              audience: resource,
              accessTokenTTL: accessTokenTtl,
              accessTokenFormat: 'jwt',
              jwt: { sign: { alg: 'ES256' } },
            }
          },
        },
        mTLS: {
          enabled: true,
          tlsClientAuth: true,
          selfSignedTlsClientAuth: true,
          certificateBoundAccessTokens: true,
          getCertificate: (context) => {
            const { raw } = (context.req.socket as TLSSocket).getPeerCertificate() as { raw?: Buffer }
            return raw === undefined ? undefined : new X509Certificate(raw)
          },
          certificateAuthorized: (context) => (context.req.socket as TLSSocket).authorized,
          certificateSubjectMatches: (context, _property, expected) =>
            `CN=${(context.req.socket as TLSSocket).getPeerCertificate().subject.CN}` === expected,
        },
      },
    },
  })
  return { ...server, issuer: server.url, requests }
}
