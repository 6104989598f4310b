/**
 * A remote MCP server of another operator: the official SDK over streamable HTTP, protected by a real oidc-provider.
 * 1. `startRemoteMcpServer()` answers 401 with `resource_metadata`, and tokens count only with its own URL as `aud`.
 * 2. Its tools are `whoami`, which tells the user and the scopes, and `repeat`, which repeats its own token.
 * 3. `startRegisteringService()` registers clients (RFC 7591), issues tokens for one resource (RFC 8707) and rotates refresh tokens.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { createRemoteJWKSet, type JWTPayload, jwtVerify } from 'jose'
import { startOpenIdServer, type OpenIdServer } from './openid-server.ts'

export interface RemoteMcpServer {
  readonly url: string
  /** Set before the first request: the issuer whose tokens count. */
  issuer: string
  /** Claims of the tokens that it has accepted. */
  readonly accepted: JWTPayload[]
  /** The text of the last token. */
  lastToken(): string
  close(): Promise<void>
}

const SCOPES = ['remote:read', 'remote:write']

export const startRemoteMcpServer = async (): Promise<RemoteMcpServer> => {
  const accepted: JWTPayload[] = []
  let last = ''
  const http = createServer((request, response) => {
    void handle(request, response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(500)
      response.end(String(error))
    })
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const origin = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  const server = { url: `${origin}/v1/mcp`, issuer: '' }
  const verify = async (token: string): Promise<JWTPayload | undefined> => {
    try {
      const keys = createRemoteJWKSet(new URL('/jwks', server.issuer))
      return (await jwtVerify(token, keys, { issuer: server.issuer, audience: server.url, typ: 'at+jwt' })).payload
    } catch {
      return undefined
    }
  }
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = new URL(request.url!, origin).pathname
    if (path === '/.well-known/oauth-protected-resource/v1/mcp') {
      response.writeHead(200, { 'content-type': 'application/json' }).end(
        JSON.stringify({
          resource: server.url,
          authorization_servers: [server.issuer],
          scopes_supported: SCOPES,
          bearer_methods_supported: ['header'],
        }),
      )
      return
    }
    if (path !== '/v1/mcp') return void response.writeHead(404).end()
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? ''
    const claims = await verify(token)
    if (claims === undefined) {
      const challenge = `Bearer resource_metadata="${origin}/.well-known/oauth-protected-resource/v1/mcp"`
      return void response.writeHead(401, { 'www-authenticate': challenge }).end()
    }
    accepted.push(claims)
    last = token
    const mcp = new McpServer({ name: 'remote', version: '1.0.0' })
    const said = (text: string) => ({ content: [{ type: 'text' as const, text }] })
    mcp.registerTool('whoami', {}, () => said(`${claims.sub} ${String(claims['scope'])}`))
    mcp.registerTool('repeat', {}, () => said(`your token is ${token}`))
    const transport = new StreamableHTTPServerTransport()
    await mcp.connect(transport as Transport)
    await transport.handleRequest(request, response)
  }
  return Object.assign(server, {
    accepted,
    lastToken: () => last,
    async close() {
      http.close()
      http.closeAllConnections()
      await once(http, 'close')
    },
  })
}

export interface RegisteringService extends OpenIdServer {
  readonly issuer: string
  /** Token requests that it has answered with tokens: the grant and `resource`. */
  readonly grants: { readonly type: unknown; readonly resource: unknown }[]
  /** How many clients have registered. */
  registrations(): number
}

export const startRegisteringService = async (options: {
  readonly resource: string
  /** Seconds. */
  readonly accessTokenTtl: number
}): Promise<RegisteringService> => {
  const grants: { type: unknown; resource: unknown }[] = []
  const server = await startOpenIdServer({
    title: 'Remote',
    users: { 'alice-remote': {}, 'bob-remote': {} },
    configuration: {
      scopes: ['openid', 'offline_access'],
      rotateRefreshToken: true,
      issueRefreshToken: (_context, client) => Promise.resolve(client.grantTypeAllowed('refresh_token')),
      features: {
        registration: { enabled: true },
        resourceIndicators: {
          enabled: true,
          useGrantedResource: () => false,
          getResourceServerInfo: (_context, resource) => {
            if (resource !== options.resource) throw new Error(`unknown resource ${resource}`)
            return {
              scope: SCOPES.join(' '),
              audience: resource,
              accessTokenTTL: options.accessTokenTtl,
              accessTokenFormat: 'jwt',
              jwt: { sign: { alg: 'ES256' } },
            }
          },
        },
      },
    },
  })
  server.provider.on('grant.success', (context) => {
    const { grant_type: type, resource } = context.oidc.params as Record<string, unknown>
    grants.push({ type, resource })
  })
  let registrations = 0
  server.provider.on('registration_create.success', () => {
    registrations += 1
  })
  return { ...server, issuer: server.url, grants, registrations: () => registrations }
}
