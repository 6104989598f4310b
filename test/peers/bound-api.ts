/**
 * An API that takes no token from who cannot prove the key that it is bound to (RFC 9449 section 7).
 * 1. `startBoundApi()` serves `GET` and `POST /notes`; `issuer` is set to whom it trusts (JWTs by RFC 9068, for its own URL).
 * 2. Each proof is for one request: method, URL, token, a `jti` that nobody has used, and the nonce that is current.
 * 3. Its protected resource metadata (RFC 9728) says that it wants bound tokens.
 * 4. `changeNonce()` makes another one, which it tells in its next answer, as section 8.2 lets it.
 */
import { createHash, randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  calculateJwkThumbprint,
  createRemoteJWKSet,
  decodeProtectedHeader,
  EmbeddedJWK,
  jwtVerify,
  type JWTPayload,
} from 'jose'

export interface BoundApi {
  readonly url: string
  /** Set before the first request. */
  issuer: string
  /** What it has answered: statuses in their order. */
  readonly statuses: number[]
  /** Claims of the tokens that it took. */
  readonly accepted: JWTPayload[]
  /** Bodies that came with requests that it took. */
  readonly bodies: string[]
  changeNonce(): void
  close(): Promise<void>
}

const read = async (request: IncomingMessage): Promise<string> => {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return text
}

export const startBoundApi = async (): Promise<BoundApi> => {
  let nonce = randomUUID()
  let keys: ReturnType<typeof createRemoteJWKSet> | undefined
  const used = new Set<string>()

  /** @returns the claims of the token, or the error code of the refusal */
  const check = async (
    request: IncomingMessage,
  ): Promise<JWTPayload | 'invalid_token' | 'invalid_dpop_proof' | 'use_dpop_nonce'> => {
    const [, token] = /^DPoP (\S+)$/.exec(request.headers.authorization ?? '') ?? []
    const [proof, another] = request.headersDistinct['dpop'] ?? []
    if (token === undefined || proof === undefined || another !== undefined) return 'invalid_token'
    let claims: JWTPayload
    try {
      ;({ payload: claims } = await jwtVerify(token, (keys ??= createRemoteJWKSet(new URL(`${api.issuer}/jwks`))), {
        issuer: api.issuer,
        audience: api.url,
        typ: 'at+jwt',
      }))
    } catch {
      return 'invalid_token'
    }
    try {
      const { payload } = await jwtVerify(proof, EmbeddedJWK, {
        typ: 'dpop+jwt',
        algorithms: ['ES256'],
        maxTokenAge: 60,
        requiredClaims: ['jti', 'htm', 'htu', 'ath'],
      })
      const { jwk } = decodeProtectedHeader(proof)
      if (
        'd' in jwk! ||
        payload['htm'] !== request.method ||
        payload['htu'] !== `${api.url}${request.url!.split('?', 1)[0]!}` ||
        payload['ath'] !== createHash('sha256').update(token).digest('base64url')
      )
        return 'invalid_dpop_proof'
      if ((await calculateJwkThumbprint(jwk!)) !== (claims['cnf'] as { jkt?: string } | undefined)?.jkt)
        return 'invalid_token'
      if (used.has(payload.jti!)) return 'invalid_dpop_proof'
      used.add(payload.jti!)
      return payload['nonce'] === nonce ? claims : 'use_dpop_nonce'
    } catch {
      return 'invalid_dpop_proof'
    }
  }

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (request.url === '/.well-known/oauth-protected-resource')
      return void response.writeHead(200, { 'content-type': 'application/json' }).end(
        JSON.stringify({
          resource: api.url,
          authorization_servers: [api.issuer],
          scopes_supported: ['notes:read', 'notes:write'],
          dpop_bound_access_tokens_required: true,
        }),
      )
    if (request.url!.startsWith('/.well-known/')) return void response.writeHead(404).end()
    const found = await check(request)
    // Who is refused need not be listened to.
    const body = typeof found === 'string' ? '' : await read(request)
    const status = typeof found === 'string' ? 401 : 200
    api.statuses.push(status)
    response.writeHead(status, {
      'content-type': 'application/json',
      'dpop-nonce': nonce,
      ...(typeof found === 'string' ? { 'www-authenticate': `DPoP error="${found}", algs="ES256"` } : {}),
    })
    if (typeof found !== 'string') {
      api.accepted.push(found)
      api.bodies.push(body)
    }
    response.end(
      JSON.stringify(typeof found === 'string' ? { error: found } : { user: found.sub, scope: found['scope'] }),
    )
  }
  const server = createServer((request, response) => {
    void serve(request, response)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const api: BoundApi = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    issuer: '',
    statuses: [],
    accepted: [],
    bodies: [],
    changeNonce() {
      nonce = randomUUID()
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
  return api
}
