import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { decodeJwt } from 'jose'
import { Provider } from 'oidc-provider'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { providerSchema } from '../../src/config/provider.ts'
import { createClientCredentialsConnector } from '../../src/credentials/connector/token-endpoint/client-credentials.ts'
import { createProviderCalls } from '../../src/credentials/provider/call.ts'
import { createProviderClients } from '../../src/credentials/provider/client.ts'
import { createTokenRequests } from '../../src/credentials/connector/token-endpoint/token-request.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { aCertificateAuthority, type Issued } from '../support/certificates.ts'
import { aKeyPair } from '../support/daemon.ts'
import { someProofs } from '../support/proofs.ts'
import { aServer, aSnapshot, aTenant } from '../support/snapshot.ts'

const RESOURCE = 'https://orders.example/api'

describe('Deputy as a client of a real oidc-provider', () => {
  const pair = aKeyPair()
  const elliptic = generateKeyPairSync('rsa', { modulusLength: 2048 })
  let url: string
  let close: () => Promise<void>
  let authority: Awaited<ReturnType<typeof aCertificateAuthority>>
  let mine: Issued
  let foreign: Issued
  let egress: ReturnType<typeof createEgress>
  let shown: TLSSocket | undefined

  beforeAll(async () => {
    authority = await aCertificateAuthority()
    mine = await authority.issue('deputy', { client: true })
    foreign = await authority.issue('somebody else', { client: true })
    const own = await authority.issue('login', { host: '127.0.0.1' })
    let handle: ReturnType<Provider['callback']> | undefined
    const server = createServer(
      { cert: own.certificate, key: own.key, ca: authority.certificate, requestCert: true, rejectUnauthorized: false },
      (request, response) => {
        shown = request.socket as TLSSocket
        void handle!(request, response)
      },
    )
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
    const client = {
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      scope: 'read write',
      id_token_signed_response_alg: 'RS256',
    } as const
    const provider = new Provider(url, {
      jwks: {
        keys: [{ ...elliptic.privateKey.export({ format: 'jwk' }), kid: 'own', use: 'sig', alg: 'RS256' }],
      },
      scopes: ['read', 'write'],
      clientAuthMethods: ['private_key_jwt', 'tls_client_auth'],
      clients: [
        {
          ...client,
          grant_types: [...client.grant_types],
          redirect_uris: [],
          response_types: [],
          client_id: 'by-key',
          token_endpoint_auth_method: 'private_key_jwt',
          token_endpoint_auth_signing_alg: 'ES256',
          jwks: { keys: [{ ...pair.jwk, kty: 'EC' }] },
        },
        {
          ...client,
          grant_types: [...client.grant_types],
          redirect_uris: [],
          response_types: [],
          client_id: 'by-certificate',
          token_endpoint_auth_method: 'tls_client_auth',
          tls_client_auth_subject_dn: 'CN=deputy',
          tls_client_certificate_bound_access_tokens: true,
        },
      ],
      features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: () => ({ scope: 'read write', audience: RESOURCE, accessTokenFormat: 'jwt' }),
        },
        mTLS: {
          enabled: true,
          tlsClientAuth: true,
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
    })
    provider.silent = true
    handle = provider.callback()
    egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 5000, ca: authority.certificate })
    close = () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      })
  })
  afterAll(async () => {
    await egress?.close()
    await close?.()
  })

  const obtain = (client: { id: string; authentication: string; secrets: Record<string, string> }) => {
    const downstream = downstreamSchema.parse({
      downstream: 'orders',
      credential: 'client_credentials',
      provider: 'login',
      resource: RESOURCE,
      scopes: { read: 'Read' },
      client: {
        client_id: client.id,
        ...Object.fromEntries(Object.keys(client.secrets).map((name) => [name, { secret: name.replace('_', '-') }])),
      },
    })
    const provider = providerSchema.parse({
      provider: 'login',
      name: 'Login',
      issuer: url,
      discovery: true,
      client_authentication: client.authentication,
    })
    const snapshot = { ...aSnapshot(), providers: new Map([['login', provider]]) }
    const clients = createProviderClients({
      snapshot: () => snapshot,
      egress,
      ...someProofs(),
      resolveSecret: (reference) =>
        Promise.resolve(new Secret(client.secrets[(reference as { secret: string }).secret.replace('-', '_')]!)),
    })
    return createClientCredentialsConnector({
      requestToken: createTokenRequests({
        clients,
        call: createProviderCalls({ telemetry: noTelemetry, clock: { now: () => Date.now() } }),
        clock: { now: () => Date.now() },
      }),
    }).obtain({
      principal: { kind: 'workload', tenant: 'acme', server: 'notes' },
      tenant: aTenant(),
      server: aServer(),
      downstream,
      scopes: ['read'],
      notAfter: Infinity,
      audiences: [RESOURCE],
      priorActors: [],
      ancestors: [],
      correlationId: 'c',
    })
  }

  it('proves itself by an assertion and gets a token for the resource', async () => {
    const credential = await obtain({
      id: 'by-key',
      authentication: 'private_key_jwt',
      secrets: { private_key: JSON.stringify({ ...pair.privateKey.export({ format: 'jwk' }), kid: 'key' }) },
    })
    expect(decodeJwt(credential.token.reveal())).toMatchObject({ aud: RESOURCE, client_id: 'by-key', scope: 'read' })
    expect(shown?.getPeerCertificate().subject).toBeUndefined()
  })

  it("proves itself by a certificate (RFC 8705), to which the token is bound; another one's is refused", async () => {
    const credential = await obtain({
      id: 'by-certificate',
      authentication: 'tls_client_auth',
      secrets: { certificate: mine.certificate, private_key: mine.key },
    })
    expect(decodeJwt(credential.token.reveal())).toMatchObject({
      client_id: 'by-certificate',
      cnf: { 'x5t#S256': expect.any(String) as string },
    })
    await expect(
      obtain({
        id: 'by-certificate',
        authentication: 'tls_client_auth',
        secrets: { certificate: foreign.certificate, private_key: foreign.key },
      }),
    ).rejects.toMatchObject({ code: 'provider_refused' })
  })

  it('a connection on which it has shown a certificate is used for nothing else', async () => {
    await obtain({
      id: 'by-certificate',
      authentication: 'tls_client_auth',
      secrets: { certificate: mine.certificate, private_key: mine.key },
    })
    expect(shown?.getPeerCertificate().subject.CN).toBe('deputy')
    await obtain({
      id: 'by-key',
      authentication: 'private_key_jwt',
      secrets: { private_key: JSON.stringify(pair.privateKey.export({ format: 'jwk' })) },
    })
    expect(shown?.getPeerCertificate().subject).toBeUndefined()
  })
})
