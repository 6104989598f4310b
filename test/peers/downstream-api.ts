/**
 * A small API behind the OAuth service.
 * 1. `startDownstreamApi({ service })` serves `GET /notes`.
 * 2. It introspects each access token at that service and wants the scope `notes:read`.
 * 3. `requests()` says how many requests have come, `accepted()` how many were answered with notes.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { API_CLIENT, type OAuthService } from './oauth-service.ts'

export interface DownstreamApi {
  readonly url: string
  requests(): number
  accepted(): number
  close(): Promise<void>
}

export const startDownstreamApi = async (options: { service: Pick<OAuthService, 'url'> }): Promise<DownstreamApi> => {
  let requests = 0
  let accepted = 0
  const basic = Buffer.from(`${API_CLIENT.client_id}:${API_CLIENT.client_secret}`).toString('base64')
  const answer = (response: ServerResponse, status: number, body: object): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    requests += 1
    if (request.url !== '/notes' || request.method !== 'GET') return answer(response, 404, { error: 'not_found' })
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1]
    if (token === undefined) return answer(response, 401, { error: 'invalid_token' })
    const introspection = await fetch(`${options.service.url}/token/introspection`, {
      method: 'POST',
      headers: { authorization: `Basic ${basic}` },
      body: new URLSearchParams({ token }),
    })
    const found = (await introspection.json()) as {
      active?: boolean
      sub?: string
      scope?: string
      token_type?: string
    }
    // A refresh token introspects as active too, but has no token type: it is no access token.
    if (found.active !== true || found.token_type !== 'Bearer' || found.sub === undefined)
      return answer(response, 401, { error: 'invalid_token' })
    if (!(found.scope ?? '').split(' ').includes('notes:read'))
      return answer(response, 403, { error: 'insufficient_scope' })
    accepted += 1
    return answer(response, 200, { user: found.sub, notes: [`A note of ${found.sub}`] })
  }
  const server = createServer((request, response) => {
    serve(request, response).catch(() => {
      answer(response, 502, { error: 'introspection_failed' })
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: () => requests,
    accepted: () => accepted,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
}
