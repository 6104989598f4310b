/**
 * An identity provider that issues ID-JAGs (draft-ietf-oauth-identity-assertion-authz-grant section 4.3), strict about what it is asked:
 * the client authenticates, the subject token is an ID token for that client, `audience` and `resource` are ones that it knows.
 */
import { randomUUID } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { importJWK, jwtVerify, SignJWT, type JWK } from 'jose'

export interface IdentityProviderDouble {
  readonly url: string
  readonly client: { readonly id: string; readonly secret: string }
  /** What is other than it should be in what is issued next. */
  spoil: { readonly header?: object; readonly claims?: object; readonly answer?: object } | undefined
  /** Requests that were accepted, as they came. */
  readonly requests: Readonly<Record<string, string>>[]
  idToken(claims: { sub: string; aud?: string }, life?: string): Promise<string>
  close(): Promise<void>
}

/** @param given the key that it signs with, and the authorization server, its client there and the service for which it issues assertions */
export const startIdentityProvider = async (given: {
  readonly key: JWK
  readonly audience: string
  readonly clientId: string
  readonly resource: string
}): Promise<IdentityProviderDouble> => {
  const key = await importJWK(given.key, 'ES256')
  const publicKey = await importJWK(
    { kty: given.key.kty!, crv: given.key.crv!, x: given.key.x!, y: given.key.y! },
    'ES256',
  )
  const client = { id: 'deputy-at-idp', secret: 'idp-client-secret' }
  const json = (response: ServerResponse, status: number, body: unknown): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }

  const answer = async (form: URLSearchParams, authorization: string | undefined): Promise<[number, object]> => {
    // RFC 6749 section 2.3.1: by Basic, or in the body.
    const [id, secret] =
      authorization === undefined
        ? [form.get('client_id'), form.get('client_secret')]
        : Buffer.from(authorization.replace(/^Basic /, ''), 'base64')
            .toString('utf8')
            .split(':')
            .map(decodeURIComponent)
    if (id !== client.id || secret !== client.secret) return [401, { error: 'invalid_client' }]
    if (
      form.get('grant_type') !== 'urn:ietf:params:oauth:grant-type:token-exchange' ||
      form.get('requested_token_type') !== 'urn:ietf:params:oauth:token-type:id-jag'
    )
      return [400, { error: 'unsupported_grant_type' }]
    if (form.get('subject_token_type') !== 'urn:ietf:params:oauth:token-type:id_token')
      return [400, { error: 'invalid_request', error_description: 'subject_token_type' }]
    if (form.get('audience') !== given.audience || form.get('resource') !== given.resource)
      return [400, { error: 'invalid_target' }]
    let user: string
    try {
      user = (
        await jwtVerify(form.get('subject_token') ?? '', publicKey, {
          issuer: double.url,
          audience: client.id,
          algorithms: ['ES256'],
          requiredClaims: ['exp', 'sub'],
        })
      ).payload.sub!
    } catch {
      return [400, { error: 'invalid_grant', error_description: 'the ID token' }]
    }
    double.requests.push(
      Object.fromEntries([...form].filter(([name]) => name !== 'client_id' && name !== 'client_secret')),
    )
    const { spoil } = double
    double.spoil = undefined
    const now = Math.floor(Date.now() / 1000)
    const claims = {
      iss: double.url,
      sub: user,
      aud: given.audience,
      client_id: given.clientId,
      resource: given.resource,
      jti: randomUUID(),
      iat: now,
      exp: now + 300,
      ...(form.has('scope') ? { scope: form.get('scope') } : {}),
      ...spoil?.claims,
    }
    const assertion = await new SignJWT(claims as Record<string, unknown>)
      .setProtectedHeader({ alg: 'ES256', kid: 'key', typ: 'oauth-id-jag+jwt', ...spoil?.header })
      .sign(key)
    return [
      200,
      {
        issued_token_type: 'urn:ietf:params:oauth:token-type:id-jag',
        access_token: assertion,
        token_type: 'N_A',
        expires_in: 300,
        ...spoil?.answer,
      },
    ]
  }

  const server = createServer((request, response) => {
    if (request.url === '/.well-known/openid-configuration') {
      json(response, 200, {
        issuer: double.url,
        authorization_endpoint: `${double.url}/authorize`,
        token_endpoint: `${double.url}/token`,
        jwks_uri: `${double.url}/jwks`,
        code_challenge_methods_supported: ['S256'],
        response_types_supported: ['code'],
        token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['ES256'],
      })
      return
    }
    if (request.url === '/jwks') {
      json(response, 200, {
        keys: [{ kty: given.key.kty, crv: given.key.crv, x: given.key.x, y: given.key.y, kid: 'key', alg: 'ES256' }],
      })
      return
    }
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('utf8')
    })
    request.on('end', () => {
      void answer(new URLSearchParams(body), request.headers.authorization).then(([status, said]) => {
        json(response, status, said)
      })
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const double: IdentityProviderDouble = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    client,
    spoil: undefined,
    requests: [],
    idToken: ({ sub, aud = client.id }, life = '10m') =>
      new SignJWT({ sub })
        .setProtectedHeader({ alg: 'ES256' })
        .setIssuer(double.url)
        .setAudience(aud)
        .setIssuedAt()
        .setJti(randomUUID())
        .setExpirationTime(life)
        .sign(key),
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
  return double
}
