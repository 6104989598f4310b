/**
 * GitHub as an OAuth app sees it, strict about what its documentation says (pages are below https://docs.github.com/en):
 * - no ID token, no metadata, no `iss`; the code comes to a redirect URI at or below the callback URL, and lives ten minutes (apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps);
 * - the token answer is a form unless JSON is accepted; `scope` has commas; errors come with status 200 and `error=bad_verification_code` or `incorrect_client_credentials`
 *   (the same page, and apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors);
 * - PKCE with S256 (https://github.blog/changelog/2025-07-14-pkce-support-for-oauth-and-github-app-authentication/);
 * - GET /user (rest/users/users#get-the-authenticated-user); GET /user/orgs and /user/teams need `read:org`, else 403 (rest/orgs/orgs#list-organizations-for-the-authenticated-user, rest/teams/teams#list-teams-for-the-authenticated-user);
 * - lists have pages, named by `Link` (rest/using-the-rest-api/using-pagination-in-the-rest-api);
 * - DELETE /applications/{client_id}/token with HTTP Basic ends a token, 204, and it is 401 everywhere from then on (rest/apps/oauth-applications#delete-an-app-token);
 * - requests to the API have a User-Agent, else 403 (rest/using-the-rest-api/getting-started-with-the-rest-api#user-agent).
 */
import { createHash, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PASSWORD } from '../peers/openid-server.ts'

export interface GitHubUser {
  readonly id: number
  readonly orgs: readonly string[]
  /** `org/team`. */
  readonly teams?: readonly string[]
}

export interface GitHubOAuthDouble {
  readonly url: string
  readonly clientId: string
  readonly clientSecret: string
  readonly users: Record<string, GitHubUser>
  /** Tokens that are not ended, and those that were. */
  readonly live: Set<string>
  readonly ended: string[]
  /** The parameters of the authorization requests, as they came. */
  readonly asked: URLSearchParams[]
  /** Status of /user instead of 200; 0: it does not answer. */
  userStatus: number | undefined
  close(): Promise<void>
}

interface Code {
  readonly login: string
  readonly scope: string
  readonly redirectUri: string
  readonly challenge: string | null
}

const readBody = async (request: IncomingMessage): Promise<string> => {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return text
}

/** @param callbackUrl as the OAuth app has registered it */
export const startGitHubOAuth = async (callbackUrl: string): Promise<GitHubOAuthDouble> => {
  const codes = new Map<string, Code>()
  const tokens = new Map<string, { readonly login: string; readonly scope: string }>()
  const json = (
    response: ServerResponse,
    status: number,
    body: unknown,
    headers: Record<string, string> = {},
  ): void => {
    response
      .writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers })
      .end(JSON.stringify(body))
  }

  const authorize = async (url: URL, request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const parameters = url.searchParams
    const redirectUri = parameters.get('redirect_uri') ?? callbackUrl
    const isBelow = redirectUri === callbackUrl || redirectUri.startsWith(`${callbackUrl}/`)
    if (parameters.get('client_id') !== double.clientId || !isBelow) {
      response.writeHead(404).end('The redirect_uri is not associated with this application.')
      return
    }
    if (request.method !== 'POST') {
      double.asked.push(parameters)
      response
        .writeHead(200, { 'content-type': 'text/html' })
        .end('<form method="post"><input name="login"><input name="password" type="password"></form>')
      return
    }
    const form = new URLSearchParams(await readBody(request))
    const login = form.get('login') ?? ''
    if (double.users[login] === undefined || form.get('password') !== PASSWORD) {
      response.writeHead(401).end('Incorrect username or password.')
      return
    }
    const code = randomBytes(10).toString('hex')
    const scope = parameters.get('scope') ?? ''
    codes.set(code, { login, scope, redirectUri, challenge: parameters.get('code_challenge') })
    const back = new URL(redirectUri)
    back.searchParams.set('code', code)
    back.searchParams.set('state', parameters.get('state') ?? '')
    response.writeHead(302, { location: back.href }).end()
  }

  const redeem = (form: URLSearchParams): Record<string, string> => {
    if (form.get('client_id') !== double.clientId || form.get('client_secret') !== double.clientSecret)
      return {
        error: 'incorrect_client_credentials',
        error_description: 'The client_id and/or client_secret passed are incorrect.',
      }
    const code = codes.get(form.get('code') ?? '')
    codes.delete(form.get('code') ?? '')
    const verifier = form.get('code_verifier')
    const isProved =
      code?.challenge == null ||
      (verifier !== null && createHash('sha256').update(verifier).digest('base64url') === code.challenge)
    if (code === undefined || !isProved)
      return { error: 'bad_verification_code', error_description: 'The code passed is incorrect or expired.' }
    if (form.get('redirect_uri') !== code.redirectUri)
      return {
        error: 'redirect_uri_mismatch',
        error_description: 'The redirect_uri MUST match the registered callback URL for this application.',
      }
    const token = `gho_${randomBytes(18).toString('hex')}`
    tokens.set(token, code)
    double.live.add(token)
    return { access_token: token, scope: code.scope.split(' ').join(','), token_type: 'bearer' }
  }

  const token = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const answer = redeem(new URLSearchParams(await readBody(request)))
    if (request.headers.accept?.includes('application/json') === true) json(response, 200, answer)
    else
      response
        .writeHead(200, { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' })
        .end(new URLSearchParams(answer).toString())
  }

  /** A page of two, to have pages at all: the documents say 30, and at most 100. */
  const list = (response: ServerResponse, url: URL, items: readonly unknown[]): void => {
    const page = Number(url.searchParams.get('page') ?? 1)
    const next = new URL(url)
    next.searchParams.set('page', String(page + 1))
    const headers: Record<string, string> =
      items.length > page * 2
        ? { link: `<${double.url}${next.pathname}?a=1>; rel="last", <${next.href}>; rel="next"` }
        : {}
    json(response, 200, items.slice((page - 1) * 2, page * 2), headers)
  }

  const api = (url: URL, request: IncomingMessage, response: ServerResponse): void => {
    if (request.headers['user-agent'] === undefined) return json(response, 403, { message: 'User-Agent' })
    const [, bearer = ''] = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '') ?? []
    const known = double.live.has(bearer) ? tokens.get(bearer) : undefined
    if (known === undefined) return json(response, 401, { message: 'Bad credentials' })
    const { id, orgs, teams = [] } = double.users[known.login]!
    if (url.pathname === '/api/user') {
      if (double.userStatus === 0) return
      if (double.userStatus !== undefined) return json(response, double.userStatus, { message: 'no' })
      return json(response, 200, {
        login: known.login,
        id,
        type: 'User',
        name: 'Acme Admin',
        company: '@acme',
        email: null,
        plan: { name: 'pro' },
      })
    }
    if (!known.scope.split(' ').includes('read:org')) return json(response, 403, { message: 'Requires read:org' })
    if (url.pathname === '/api/user/orgs')
      return list(
        response,
        url,
        orgs.map((login, at) => ({ login, id: at, url: double.url })),
      )
    if (url.pathname === '/api/user/teams')
      return list(
        response,
        url,
        teams.map((team) => ({ slug: team.split('/')[1], organization: { login: team.split('/')[0] } })),
      )
    return json(response, 404, { message: 'Not Found' })
  }

  const end = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const basic = Buffer.from(`${double.clientId}:${double.clientSecret}`).toString('base64')
    if (request.headers.authorization !== `Basic ${basic}`) return json(response, 401, { message: 'Bad credentials' })
    const { access_token: ending } = JSON.parse(await readBody(request)) as { access_token: string }
    if (!double.live.delete(ending)) return json(response, 404, { message: 'Not Found' })
    double.ended.push(ending)
    response.writeHead(204).end()
  }

  const server = createServer((request, response) => {
    void (async () => {
      const url = new URL(request.url!, double.url)
      if (url.pathname === '/login/oauth/authorize') await authorize(url, request, response)
      else if (url.pathname === '/login/oauth/access_token' && request.method === 'POST') await token(request, response)
      else if (url.pathname === `/api/applications/${double.clientId}/token` && request.method === 'DELETE')
        await end(request, response)
      else if (url.pathname.startsWith('/api/') && request.method === 'GET') api(url, request, response)
      else json(response, 404, { message: 'Not Found' })
    })()
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const double: GitHubOAuthDouble = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    clientId: 'Iv1.8a61f9b3a7aba766',
    clientSecret: 'github-client-secret',
    users: {},
    live: new Set(),
    ended: [],
    asked: [],
    userStatus: undefined,
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
