/**
 * An OAuth service whose next answers can be spoiled. What it does by itself is what the standards say:
 * - refresh tokens rotate, and the use of an old one ends the whole family: https://www.rfc-editor.org/rfc/rfc9700#section-4.14.2
 * - a refresh needs the client that the token was issued to, and the same resource: https://www.rfc-editor.org/rfc/rfc6749#section-6, https://www.rfc-editor.org/rfc/rfc8707#section-2.2
 * - a refresh may narrow the scope, never widen it: https://www.rfc-editor.org/rfc/rfc6749#section-6
 * - revoking a refresh token ends its family: https://www.rfc-editor.org/rfc/rfc7009#section-2.1
 * For the ordinary case there is the real one in `test/peers/notes-service.ts`.
 */
import { randomUUID } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export const CLAIMS = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}'

/** `challenge`: wants to see the user again. `lost`: acts, then closes without an answer. `unverifiable`: acts, then answers what is no token response, new tokens in it. `nonce`: wants one in the proof (https://www.rfc-editor.org/rfc/rfc9449#section-8). */
export type Spoiled = 'lost' | 'unverifiable' | 'failing' | 'busy' | 'denied' | 'challenge' | 'hang' | 'nonce'

/** @see OAuthProviderDouble.raw */
export interface RawAnswer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body: string | ((answer: Readonly<Record<string, unknown>>) => string)
}

interface Family {
  readonly client: string
  readonly resource: string | undefined
  readonly scopes: readonly string[]
  current: string
  latestAccess: string
  ended: boolean
}

export interface OAuthProviderDouble {
  readonly url: string
  readonly client: { readonly id: string; readonly secret: string }
  /** What becomes of the next requests to the token and revocation endpoints, in order; afterwards all is well. */
  readonly spoil: { token: Spoiled[]; revocation: Spoiled[] }
  /** Answers to the next refreshes as they stand here; `act`: the refresh is done, and the text made of its answer. */
  readonly raw: RawAnswer[]
  /** Refresh requests that arrived, with their parameters. */
  readonly refreshes: Readonly<Record<string, string>>[]
  /** Called while a refresh is held, before it is answered. */
  duringRefresh: () => Promise<void> | void
  lifetime: number
  /** Stands in its answers beside the token. */
  more: Readonly<Record<string, unknown>>
  /** Answers without `refresh_token` and `scope`, as RFC 6749 section 6 allows for a service that does not rotate. */
  rotates: boolean
  /** Takes no notice of `scope` in a refresh, as some services do. */
  ignoresScope: boolean
  /** A grant. `latestAccess` is the access token that was issued last for it. */
  issue(options: { scopes: readonly string[]; resource?: string }): {
    readonly refreshToken: string
    readonly accessToken: string
    latestAccess(): string
  }
  isLive(refreshToken: string): boolean
  readonly revoked: string[]
  close(): Promise<void>
}

export const startOAuthProvider = async (): Promise<OAuthProviderDouble> => {
  const families = new Set<Family>()
  const known = new Map<string, Family>()
  const client = { id: 'deputy', secret: 'provider-secret' }
  const json = (response: ServerResponse, status: number, body: unknown): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }

  const rotate = (family: Family): string => {
    family.current = randomUUID()
    known.set(family.current, family)
    return family.current
  }

  /** @returns the answer, or the OAuth error code */
  const refresh = (form: Readonly<Record<string, string>>): object | string => {
    const { refresh_token: token = '', scope, resource } = form
    const family = known.get(token)
    if (family === undefined || family.ended || family.client !== client.id) return 'invalid_grant'
    if (token !== family.current) {
      family.ended = true
      return 'invalid_grant'
    }
    if (family.resource !== resource) return 'invalid_target'
    const scopes = double.ignoresScope ? family.scopes : (scope?.split(' ') ?? family.scopes)
    if (scopes.some((each) => !family.scopes.includes(each))) return 'invalid_scope'
    family.latestAccess = `access-${randomUUID()}`
    const answer = {
      access_token: family.latestAccess,
      token_type: 'Bearer',
      expires_in: double.lifetime,
    }
    return double.rotates
      ? { ...answer, refresh_token: rotate(family), scope: scopes.join(' '), ...double.more }
      : { ...answer, ...double.more }
  }

  /** `client_secret_basic`, both parts form-encoded: https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1 */
  const isClient = (authorization = ''): boolean => {
    const [id, secret] = Buffer.from(authorization.replace('Basic ', ''), 'base64')
      .toString('utf8')
      .split(':')
      .map(decodeURIComponent)
    return id === client.id && secret === client.secret
  }

  const spoilt = (response: ServerResponse, how: Spoiled | undefined, act: () => object | string): void => {
    if (how === 'failing') {
      json(response, 500, { oops: true })
      return
    }
    if (how === 'busy') {
      response.setHeader('retry-after', '1')
      json(response, 429, { error: 'slow_down' })
      return
    }
    if (how === 'denied') {
      json(response, 400, { error: 'invalid_grant', error_description: 'the user left' })
      return
    }
    // https://learn.microsoft.com/en-us/entra/identity-platform/claims-challenge
    if (how === 'challenge') {
      json(response, 400, {
        error: 'interaction_required',
        error_description: 'a second factor is needed',
        claims: CLAIMS,
      })
      return
    }
    if (how === 'nonce') {
      response.setHeader('dpop-nonce', randomUUID())
      json(response, 400, { error: 'use_dpop_nonce' })
      return
    }
    if (how === 'hang') return
    const answer = act()
    if (how === 'lost') {
      response.destroy()
      return
    }
    if (typeof answer === 'string') json(response, 400, { error: answer })
    else json(response, 200, how === 'unverifiable' ? { ...answer, token_type: 7 } : answer)
  }

  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('utf8')
    })
    request.on('end', () => {
      const form = Object.fromEntries(new URLSearchParams(body))
      if (!isClient(request.headers.authorization)) {
        json(response, 401, { error: 'invalid_client' })
        return
      }
      if (request.url === '/token' && form['grant_type'] === 'refresh_token') {
        double.refreshes.push(form)
        const how = double.spoil.token.shift()
        void Promise.resolve(double.duringRefresh()).then(() => {
          const raw = double.raw.shift()
          if (raw !== undefined) {
            const text = typeof raw.body === 'string' ? raw.body : raw.body(refresh(form) as Record<string, unknown>)
            response.writeHead(raw.status, { 'content-type': 'application/json', ...raw.headers }).end(text)
            return
          }
          spoilt(response, how, () => refresh(form))
        })
      } else if (request.url === '/revoke') {
        const how = double.spoil.revocation.shift()
        spoilt(response, how, () => {
          const family = known.get(form['token'] ?? '')
          if (family !== undefined) family.ended = true
          double.revoked.push(form['token'] ?? '')
          return {}
        })
      } else json(response, 404, {})
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const double: OAuthProviderDouble = {
    url,
    client,
    spoil: { token: [], revocation: [] },
    raw: [],
    refreshes: [],
    duringRefresh: () => undefined,
    lifetime: 3600,
    more: {},
    rotates: true,
    ignoresScope: false,
    revoked: [],
    issue({ scopes, resource }) {
      const family: Family = {
        client: client.id,
        resource,
        scopes,
        current: '',
        latestAccess: `access-${randomUUID()}`,
        ended: false,
      }
      families.add(family)
      return { refreshToken: rotate(family), accessToken: family.latestAccess, latestAccess: () => family.latestAccess }
    },
    isLive(token) {
      const family = known.get(token)
      return family !== undefined && !family.ended && family.current === token
    },
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
