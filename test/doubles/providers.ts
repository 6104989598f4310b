/**
 * Doubles of OAuth services as they really are, each written from its vendor's documentation, whose page stands beside what it
 * says. They refuse what the real ones refuse. What they share is RFC 6749 with RFC 7636: a code is good once, for the client, redirect URI and code challenge
 * that it was asked for with.
 */
import { createHash, randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

type Form = Readonly<Record<string, string>>
type Refusal = 'invalid_grant' | 'invalid_client' | 'invalid_request' | 'invalid_scope' | 'unsupported_grant_type'

interface Grant {
  readonly scopes: readonly string[]
  readonly redirectUri: string
  /** Access tokens that work. */
  readonly live: Set<string>
  refresh: string
  /** The refresh token before, and when it was replaced (ms). */
  previous: { token: string; at: number } | undefined
  ended: boolean
}

interface Answer {
  readonly status: number
  readonly body?: object | string
  readonly type?: string
  readonly location?: string
}
const json = (status: number, body: object): Answer => ({ status, body })

interface Dialect {
  readonly paths: {
    readonly authorize: string
    readonly token: string
    readonly refresh?: string
    readonly revoke?: string
    readonly introspect?: string
  }
  /** What has to stand in the authorization request, beside what the standard says. */
  readonly authorization?: Form
  readonly scopes?: { readonly parameter: 'scope' | 'user_scope'; readonly separator: string }
  readonly pkce?: false
  readonly authentication: 'basic' | 'post' | 'secret_as_user'
  readonly body?: 'json'
  readonly headers?: Form
  /** single: an old refresh token is refused; family: and ends the grant; replaced: a new one comes and the old goes on; kept: none comes. */
  readonly refreshTokens: 'single' | 'family' | 'replaced' | 'kept'
  /** ms for which the refresh token before is taken too. */
  readonly leeway?: number
  readonly refreshEndsAccess?: true
  readonly refreshNamesRedirect?: true
  /** The scope without which no refresh token comes. */
  readonly offline?: string
  /** Seconds; undefined where an answer does not say it. */
  readonly lifetime: number | undefined
  readonly clientGrant?: { readonly type: string; readonly needs: readonly string[] }
  readonly metadata?: (url: string, path: string) => { readonly path: string; readonly body: object }
  /** The answer that brings a token. */
  readonly token?: (answer: Record<string, unknown>, context: { grantType: string; url: string }) => object
  readonly refuse?: (why: Refusal, grantType: string) => Answer
  readonly revoke?: (request: Request, double: Inside) => Answer
}

interface Request {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly text: string
  readonly form: Form
}
interface Inside {
  readonly client: { readonly id: string; readonly secret: string }
  byAccess(token: string): Grant | undefined
  byRefresh(token: string): Grant | undefined
  isClient(request: Request, how: Dialect['authentication']): boolean
}

const basicOf = (header: string | undefined): string[] =>
  Buffer.from((header ?? '').replace(/^Basic /, ''), 'base64')
    .toString('utf8')
    .split(':')
    .map(decodeURIComponent)
const bearerOf = (request: Request): string => /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? ''
const end = (grant: Grant): void => {
  grant.ended = true
  grant.live.clear()
}

/** RFC 7009, by the client; unknown tokens are no error. */
const byStandard =
  (how: Dialect['authentication']) =>
  (request: Request, double: Inside): Answer => {
    if (request.method !== 'POST') return json(405, {})
    if (!double.isClient(request, how)) return json(401, { error: 'invalid_client' })
    const token = request.form['token'] ?? ''
    const byRefresh = double.byRefresh(token)
    if (byRefresh !== undefined) end(byRefresh)
    double.byAccess(token)?.live.delete(token)
    return json(200, {})
  }

export const dialects = {
  github: {
    paths: {
      authorize: '/login/oauth/authorize',
      token: '/login/oauth/access_token',
      revoke: '/applications/deputy/token',
    },
    authentication: 'post',
    refreshTokens: 'single',
    refreshEndsAccess: true,
    lifetime: 28_800,
    // https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps: granted ones are joined by commas.
    token: (answer) => ({
      ...answer,
      scope: String(answer['scope']).split(' ').join(','),
      refresh_token_expires_in: 15_897_600,
    }),
    // https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors: with status 200.
    refuse: (why, grantType) =>
      json(200, {
        error:
          why === 'invalid_client'
            ? 'incorrect_client_credentials'
            : grantType === 'refresh_token'
              ? 'bad_refresh_token'
              : 'bad_verification_code',
        error_description: 'The code or refresh token passed is incorrect or expired.',
      }),
    // https://docs.github.com/en/rest/apps/oauth-applications#delete-an-app-token
    revoke: (request, double) => {
      if (request.method !== 'DELETE') return json(404, {})
      if (!double.isClient(request, 'basic')) return json(401, { message: 'Bad credentials' })
      const token = (JSON.parse(request.text) as { access_token?: string }).access_token
      if (token === undefined) return json(422, { message: 'Validation Failed' })
      const grant = double.byAccess(token)
      if (grant === undefined) return json(404, { message: 'Not Found' })
      end(grant)
      return { status: 204 }
    },
  },
  google: {
    paths: { authorize: '/o/oauth2/v2/auth', token: '/token', revoke: '/revoke' },
    // https://developers.google.com/identity/protocols/oauth2/web-server#creatingclient: without them no refresh token comes, or only the first time.
    authorization: { access_type: 'offline', prompt: 'consent' },
    authentication: 'post',
    refreshTokens: 'kept',
    lifetime: 3599,
    metadata: (url, path) => ({
      path: `${path}/.well-known/openid-configuration`,
      body: {
        issuer: url + path,
        authorization_endpoint: `${url}/o/oauth2/v2/auth`,
        token_endpoint: `${url}/token`,
        revocation_endpoint: `${url}/revoke`,
        jwks_uri: `${url}/certs`,
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['RS256'],
        code_challenge_methods_supported: ['plain', 'S256'],
      },
    }),
    // https://developers.google.com/identity/protocols/oauth2/web-server#tokenrevoke: the token alone, in a form.
    revoke: ({ method, form, headers }, double) => {
      const token = form['token'] ?? ''
      const grant = double.byRefresh(token) ?? double.byAccess(token)
      if (
        method !== 'POST' ||
        headers['content-type']?.startsWith('application/x-www-form-urlencoded') !== true ||
        grant === undefined
      )
        return json(400, { error: 'invalid_token' })
      end(grant)
      return json(200, {})
    },
  },
  slack: {
    paths: { authorize: '/oauth/v2/authorize', token: '/api/oauth.v2.access', revoke: '/api/auth.revoke' },
    // https://docs.slack.dev/authentication/installing-with-oauth
    scopes: { parameter: 'user_scope', separator: ',' },
    pkce: false,
    authentication: 'basic',
    refreshTokens: 'single',
    lifetime: 43_200,
    // https://docs.slack.dev/reference/methods/oauth.v2.access: the bot's token around the user's; https://docs.slack.dev/authentication/using-token-rotation: a refresh answers with the token itself.
    token: (answer, { grantType }) => {
      const token = { ...answer, token_type: 'user', scope: String(answer['scope']).split(' ').join(',') }
      return grantType === 'refresh_token'
        ? { ok: true, ...token, team: { id: 'T9TK3CUKW', name: 'Slack' } }
        : {
            ok: true,
            access_token: 'xoxb-of-the-bot',
            token_type: 'bot',
            scope: 'commands',
            bot_user_id: 'U0KRQLJ9H',
            app_id: 'A0KRD7HC3',
            team: { id: 'T9TK3CUKW', name: 'Slack' },
            enterprise: null,
            authed_user: { id: 'U1234', ...token },
          }
    },
    refuse: (why, grantType) =>
      json(200, {
        ok: false,
        error:
          why === 'invalid_client'
            ? 'bad_client_secret'
            : grantType === 'refresh_token'
              ? 'invalid_refresh_token'
              : 'invalid_code',
      }),
    // https://docs.slack.dev/reference/methods/auth.revoke
    revoke: (request, double) => {
      const grant = double.byAccess(bearerOf(request))
      if (grant === undefined) return json(200, { ok: false, error: 'invalid_auth' })
      end(grant)
      return json(200, { ok: true, revoked: true })
    },
  },
  entra: {
    paths: { authorize: '/contoso.example/oauth2/v2.0/authorize', token: '/contoso.example/oauth2/v2.0/token' },
    // https://learn.microsoft.com/en-us/entra/identity-platform/refresh-tokens: replaced, and the old one is not ended.
    authentication: 'post',
    refreshTokens: 'replaced',
    offline: 'offline_access',
    lifetime: 4797,
    token: (answer) => ({
      ...answer,
      ext_expires_in: 4797,
      scope: `${String(answer['scope']).replace('offline_access', '')} openid profile email`,
    }),
    refuse: (why) =>
      json(why === 'invalid_client' ? 401 : 400, {
        error: why,
        error_description: 'AADSTS70000: Provided grant is invalid or malformed.',
        error_codes: [70_000],
      }),
  },
  okta: {
    paths: {
      authorize: '/oauth2/default/v1/authorize',
      token: '/oauth2/default/v1/token',
      revoke: '/oauth2/default/v1/revoke',
    },
    // https://developer.okta.com/docs/guides/refresh-tokens/main/: the use of an old one ends the newest too.
    authentication: 'basic',
    refreshTokens: 'family',
    offline: 'offline_access',
    lifetime: 3600,
    metadata: (url, path) => ({
      path: `${path}/.well-known/openid-configuration`,
      body: {
        issuer: url + path,
        authorization_endpoint: `${url}${path}/v1/authorize`,
        token_endpoint: `${url}${path}/v1/token`,
        revocation_endpoint: `${url}${path}/v1/revoke`,
        jwks_uri: `${url}${path}/v1/keys`,
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['RS256'],
        code_challenge_methods_supported: ['S256'],
      },
    }),
    // https://developer.okta.com/docs/guides/revoke-tokens/main/
    revoke: byStandard('basic'),
  },
  auth0: {
    paths: { authorize: '/authorize', token: '/oauth/token', revoke: '/oauth/revoke' },
    // https://auth0.com/docs/secure/tokens/access-tokens/get-access-tokens: without an audience the token is for no API.
    authorization: { audience: 'https://orders.example/api' },
    // https://auth0.com/docs/secure/tokens/refresh-tokens/refresh-token-rotation
    authentication: 'post',
    refreshTokens: 'family',
    offline: 'offline_access',
    lifetime: 86_400,
    metadata: (url) => ({
      path: '/.well-known/openid-configuration',
      body: {
        issuer: `${url}/`,
        authorization_endpoint: `${url}/authorize`,
        token_endpoint: `${url}/oauth/token`,
        revocation_endpoint: `${url}/oauth/revoke`,
        jwks_uri: `${url}/.well-known/jwks.json`,
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['RS256'],
        code_challenge_methods_supported: ['S256', 'plain'],
      },
    }),
    // https://auth0.com/docs/secure/tokens/refresh-tokens/revoke-refresh-tokens: refresh tokens alone, and their grant.
    revoke: (request, double) => {
      if (!double.isClient(request, 'post')) return json(401, { error: 'invalid_client' })
      const grant = double.byRefresh(request.form['token'] ?? '')
      if (grant === undefined) return json(400, { error: 'unsupported_token_type' })
      end(grant)
      return json(200, {})
    },
  },
  atlassian: {
    paths: { authorize: '/authorize', token: '/oauth/token' },
    // https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/
    authorization: { audience: 'api.atlassian.com', prompt: 'consent' },
    authentication: 'post',
    body: 'json',
    offline: 'offline_access',
    lifetime: 3600,
    // https://developer.atlassian.com/cloud/oauth/getting-started/refresh-tokens/: rotating; no token type; a grant that is over is 403.
    refreshTokens: 'family',
    leeway: 600_000,
    token: ({ token_type: _, ...answer }) => answer,
    refuse: (why) =>
      json(why === 'invalid_client' ? 401 : 403, {
        error: why,
        error_description: 'Unknown or invalid refresh token.',
      }),
  },
  notion: {
    paths: { authorize: '/v1/oauth/authorize', token: '/v1/oauth/token', revoke: '/v1/oauth/revoke' },
    // https://developers.notion.com/reference/create-a-token: Basic and JSON.
    authorization: { owner: 'user' },
    authentication: 'basic',
    body: 'json',
    headers: { 'notion-version': '2025-09-03' },
    refreshTokens: 'single',
    lifetime: undefined,
    token: ({ scope: _, ...answer }) => ({
      ...answer,
      token_type: 'bearer',
      bot_id: '3c90c3cc',
      workspace_id: 'b1f2',
      workspace_name: 'Acme',
      owner: { type: 'user', user: { id: 'u-1' } },
      duplicated_template_id: null,
    }),
    // https://developers.notion.com/reference/revoke-token
    revoke: byStandard('basic'),
  },
  linear: {
    paths: { authorize: '/oauth/authorize', token: '/oauth/token', revoke: '/oauth/revoke' },
    // https://linear.app/developers/oauth-2-0-authentication: asked with commas, granted with spaces.
    scopes: { parameter: 'scope', separator: ',' },
    authentication: 'post',
    refreshTokens: 'single',
    lifetime: 86_399,
    revoke: (request, double) => {
      const grant = double.byAccess(bearerOf(request))
      if (grant === undefined) return { status: 401 }
      end(grant)
      return json(200, {})
    },
  },
  salesforce: {
    paths: {
      authorize: '/services/oauth2/authorize',
      token: '/services/oauth2/token',
      revoke: '/services/oauth2/revoke',
      introspect: '/services/oauth2/introspect',
    },
    // https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oauth_web_server_flow.htm: instance_url, and no expires_in.
    authentication: 'post',
    refreshTokens: 'kept',
    offline: 'refresh_token',
    lifetime: undefined,
    token: (answer, { url }) => ({
      ...answer,
      instance_url: `${url}/instance`,
      id: `${url}/id/00D/005`,
      issued_at: '1278448384422',
      signature: 'SSSbLO/gBhmmyNUvN18ODBDFYHzakxOMgqYtu+hDPsc=',
    }),
    // https://developer.salesforce.com/docs/platform/mobile-sdk/guide/oauth-revoking-tokens.html: status 400 with one of two codes.
    revoke: ({ form }, double) => {
      const grant = double.byRefresh(form['token'] ?? '') ?? double.byAccess(form['token'] ?? '')
      if (grant === undefined) return json(400, { error: 'unsupported_token_type' })
      end(grant)
      return { status: 200 }
    },
  },
  hubspot: {
    paths: { authorize: '/oauth/authorize', token: '/oauth/v1/token', revoke: '/oauth/v1/refresh-tokens/' },
    // https://developers.hubspot.com/docs/api/working-with-oauth: 30 minutes, and the refresh token stays.
    authentication: 'post',
    refreshTokens: 'kept',
    lifetime: 1800,
    token: ({ scope: _, ...answer }) => ({ ...answer, token_type: 'bearer' }),
    refuse: () =>
      json(400, {
        status: 'BAD_REFRESH_TOKEN',
        message: 'missing or unknown refresh token',
        error: 'invalid_grant',
        error_description: 'missing or unknown refresh token',
      }),
    // https://developers.hubspot.com/docs/api/oauth/tokens
    revoke: ({ method, path }, double) => {
      const grant = double.byRefresh(decodeURIComponent(path.split('/').at(-1)!))
      if (method !== 'DELETE' || grant === undefined) return json(404, {})
      end(grant)
      return { status: 204 }
    },
  },
  zoom: {
    paths: { authorize: '/oauth/authorize', token: '/oauth/token', revoke: '/oauth/revoke' },
    // https://developers.zoom.us/docs/integrations/oauth/
    authentication: 'basic',
    refreshTokens: 'single',
    lifetime: 3600,
    revoke: byStandard('basic'),
    token: (answer) => ({ ...answer, api_url: 'https://api.zoom.us' }),
    // https://developers.zoom.us/docs/internal-apps/s2s-oauth/
    clientGrant: { type: 'account_credentials', needs: ['account_id'] },
  },
  gitlab: {
    paths: { authorize: '/oauth/authorize', token: '/oauth/token', revoke: '/oauth/revoke' },
    // https://docs.gitlab.com/api/oauth2/: a refresh ends both old tokens and names the redirect URI of the original request.
    authentication: 'post',
    refreshTokens: 'single',
    refreshEndsAccess: true,
    refreshNamesRedirect: true,
    lifetime: 7200,
    revoke: byStandard('post'),
  },
  discord: {
    paths: { authorize: '/oauth2/authorize', token: '/api/oauth2/token', revoke: '/api/oauth2/token/revoke' },
    // https://discord.com/developers/docs/topics/oauth2: forms alone.
    authentication: 'basic',
    refreshTokens: 'single',
    lifetime: 604_800,
    revoke: byStandard('basic'),
  },
  dropbox: {
    paths: { authorize: '/oauth2/authorize', token: '/oauth2/token', revoke: '/2/auth/token/revoke' },
    // https://developers.dropbox.com/oauth-guide: without it no refresh token comes.
    authorization: { token_access_type: 'offline' },
    authentication: 'basic',
    refreshTokens: 'kept',
    lifetime: 14_400,
    // https://www.dropbox.com/developers/documentation/http/documentation#auth-token-revoke: the body is empty or null.
    revoke: (request, double) => {
      const grant = double.byAccess(bearerOf(request))
      if (request.text !== '') return { status: 400, body: 'Error in call: could not decode input', type: 'text/plain' }
      if (grant === undefined) return json(401, { error_summary: 'invalid_access_token/..' })
      end(grant)
      return { status: 200, body: 'null' }
    },
  },
  stripe: {
    paths: { authorize: '/oauth/v2/authorize', token: '/v1/oauth/token' },
    // https://docs.stripe.com/stripe-apps/api-authentication/oauth: the API key as the user; every exchange rolls the refresh token.
    authentication: 'secret_as_user',
    refreshTokens: 'single',
    lifetime: undefined,
    token: (answer) => ({
      ...answer,
      scope: 'stripe_apps',
      livemode: false,
      stripe_user_id: 'acct_1',
      stripe_publishable_key: 'pk_test',
    }),
  },
  twitch: {
    paths: { authorize: '/oauth2/authorize', token: '/oauth2/token', revoke: '/oauth2/revoke' },
    // https://dev.twitch.tv/docs/authentication/getting-tokens-oauth/: granted scopes are a list.
    authentication: 'post',
    refreshTokens: 'replaced',
    lifetime: 14_124,
    token: (answer) => ({ ...answer, scope: String(answer['scope']).split(' '), token_type: 'bearer' }),
    revoke: byStandard('post'),
    // https://dev.twitch.tv/docs/authentication/refresh-tokens/: no OAuth code, but a sentence.
    refuse: (why, grantType) =>
      json(400, {
        error: 'Bad Request',
        status: 400,
        message:
          why === 'invalid_grant' && grantType === 'refresh_token'
            ? 'Invalid refresh token'
            : 'Invalid authorization code',
      }),
  },
} as const satisfies Readonly<Record<string, Dialect>>
export type DialectName = keyof typeof dialects

/** Something other than the next answer of the token endpoint. `act`: the request is carried out before. */
export interface Spoiled {
  readonly act?: true
  readonly how: 'destroy' | 'half' | ((answer: Record<string, unknown>) => Answer)
}

export interface ProviderDouble {
  readonly url: string
  readonly client: { readonly id: string; readonly secret: string }
  readonly spoil: Spoiled[]
  /** Requests to the token endpoint, in order. */
  readonly requests: Form[]
  /** Authorization requests, in order. */
  readonly authorizations: Form[]
  isLive(accessToken: string): boolean
  /** Whether anything can still be had from any grant. */
  hasGrants(): boolean
  close(): Promise<void>
}

/** @param now what the service's clock says (ms) */
export const startProviderDouble = async (name: DialectName, now: () => number): Promise<ProviderDouble> => {
  const dialect: Dialect = dialects[name]
  const client = { id: 'deputy', secret: 'vendor-secret-4711' }
  const codes = new Map<
    string,
    { readonly redirectUri: string; readonly challenge: string | undefined; readonly scopes: readonly string[] }
  >()
  const grants: Grant[] = []
  const apps = new Set<string>()
  const expiry = new Map<string, number>()
  const { parameter, separator } = dialect.scopes ?? { parameter: 'scope', separator: ' ' }

  const isClient: Inside['isClient'] = ({ headers, form }, how) => {
    if (how === 'post')
      return (
        headers.authorization === undefined &&
        form['client_id'] === client.id &&
        form['client_secret'] === client.secret
      )
    const [user, password] = basicOf(headers.authorization)
    return how === 'basic'
      ? user === client.id && password === client.secret
      : user === client.secret && password === ''
  }
  const inside: Inside = {
    client,
    isClient,
    byAccess: (token) => (expiry.get(token)! > now() ? grants.find((grant) => grant.live.has(token)) : undefined),
    byRefresh: (token) => grants.find((grant) => !grant.ended && grant.refresh === token),
  }

  const authorize = (query: Form): Answer => {
    double.authorizations.push(query)
    const problem =
      query['client_id'] !== client.id ||
      query['response_type'] !== 'code' ||
      query['redirect_uri'] === undefined ||
      query['state'] === undefined
        ? 'the request is malformed'
        : (Object.entries(dialect.authorization ?? {}).find(([key, value]) => query[key] !== value)?.[0] ??
          (dialect.pkce === false
            ? query['code_challenge'] === undefined
              ? undefined
              : 'PKCE is not offered'
            : query['code_challenge_method'] === 'S256' && query['code_challenge'] !== undefined
              ? undefined
              : 'no code challenge'))
    if (problem !== undefined) return json(400, { problem })
    const code = randomUUID()
    codes.set(code, {
      redirectUri: query['redirect_uri']!,
      challenge: query['code_challenge'],
      scopes: (query[parameter] ?? '').split(separator).filter((scope) => scope !== ''),
    })
    const back = new URL(query['redirect_uri']!)
    back.search = new URLSearchParams({ code, state: query['state']! }).toString()
    return { status: 302, location: back.href }
  }

  const issue = (grant: Grant, grantType: string): Answer => {
    if (grantType === 'refresh_token' && dialect.refreshEndsAccess === true) grant.live.clear()
    const token = `at-${randomUUID()}`
    grant.live.add(token)
    expiry.set(token, now() + (dialect.lifetime ?? 3600) * 1000)
    const isNew = grantType === 'authorization_code' || dialect.refreshTokens !== 'kept'
    if (grantType === 'refresh_token' && isNew && dialect.refreshTokens !== 'replaced')
      grant.previous = { token: grant.refresh, at: now() }
    if (isNew && (dialect.refreshTokens !== 'replaced' || grant.refresh === '')) grant.refresh = `rt-${randomUUID()}`
    const answer = {
      access_token: token,
      token_type: 'Bearer',
      scope: grant.scopes.join(' '),
      ...(dialect.lifetime === undefined ? {} : { expires_in: dialect.lifetime }),
      ...(isNew && (dialect.offline === undefined || grant.scopes.includes(dialect.offline))
        ? { refresh_token: grant.refresh }
        : {}),
    }
    return json(200, dialect.token === undefined ? answer : dialect.token(answer, { grantType, url: double.url }))
  }

  const redeem = (form: Form): Answer | Refusal => {
    const asked = codes.get(form['code'] ?? '')
    codes.delete(form['code'] ?? '')
    const challenge = createHash('sha256')
      .update(form['code_verifier'] ?? '')
      .digest('base64url')
    if (
      asked === undefined ||
      asked.redirectUri !== form['redirect_uri'] ||
      (asked.challenge !== undefined && asked.challenge !== challenge)
    )
      return 'invalid_grant'
    const grant: Grant = {
      scopes: asked.scopes,
      redirectUri: asked.redirectUri,
      live: new Set(),
      refresh: '',
      previous: undefined,
      ended: false,
    }
    grants.push(grant)
    return issue(grant, 'authorization_code')
  }

  const refresh = (form: Form): Answer | Refusal => {
    const token = form['refresh_token'] ?? ''
    const grant = inside.byRefresh(token)
    const old = grants.find((each) => each.previous?.token === token && !each.ended)
    if (grant === undefined && old !== undefined && now() - old.previous!.at <= (dialect.leeway ?? -1))
      return issue(old, 'refresh_token')
    if (grant === undefined) {
      if (old !== undefined && dialect.refreshTokens === 'family') end(old)
      return 'invalid_grant'
    }
    if (dialect.refreshNamesRedirect === true && form['redirect_uri'] !== grant.redirectUri) return 'invalid_grant'
    return issue(grant, 'refresh_token')
  }

  const forClient = (form: Form): Answer | Refusal => {
    if (dialect.clientGrant!.needs.some((each) => form[each] === undefined)) return 'invalid_request'
    const token = `app-${randomUUID()}`
    apps.add(token)
    return json(200, {
      access_token: token,
      token_type: 'bearer',
      expires_in: dialect.lifetime,
      scope: 'meeting:read',
      api_url: 'https://api.zoom.us',
    })
  }

  const tokenEndpoint = (request: Request): Answer => {
    const { form, headers } = request
    const grantType = form['grant_type'] ?? ''
    double.requests.push(form)
    const refuse = (why: Refusal): Answer =>
      dialect.refuse === undefined
        ? json(why === 'invalid_client' ? 401 : 400, { error: why, error_description: `it is refused: ${why}` })
        : dialect.refuse(why, grantType)
    const type = dialect.body === 'json' ? 'application/json' : 'application/x-www-form-urlencoded'
    if (request.method !== 'POST' || headers['content-type']?.startsWith(type) !== true)
      return json(415, { message: `content type has to be ${type}` })
    if (Object.entries(dialect.headers ?? {}).some(([header, value]) => headers[header] !== value))
      return json(400, { code: 'missing_version' })
    if (!isClient(request, dialect.authentication)) return refuse('invalid_client')
    const answer =
      grantType === 'authorization_code'
        ? redeem(form)
        : grantType === 'refresh_token'
          ? refresh(form)
          : grantType === dialect.clientGrant?.type
            ? forClient(form)
            : 'unsupported_grant_type'
    return typeof answer === 'string' ? refuse(answer) : answer
  }

  const introspect = (request: Request): Answer => {
    if (!isClient(request, dialect.authentication)) return json(401, { error: 'invalid_client' })
    const token = request.form['token'] ?? ''
    return json(
      200,
      double.isLive(token)
        ? { active: true, exp: Math.floor(expiry.get(token)! / 1000), client_id: client.id }
        : { active: false },
    )
  }

  const answerTo = (request: Request, query: Form): Answer => {
    const { authorize: at, token, revoke, introspect: inspect } = dialect.paths
    const root = token.startsWith('/oauth2/default') ? '/oauth2/default' : ''
    const metadata = dialect.metadata?.(double.url, root)
    if (metadata !== undefined && request.path === metadata.path) return json(200, metadata.body)
    if (request.path === at && request.method === 'GET') return authorize(query)
    if (request.path === token) return tokenEndpoint(request)
    if (request.path === inspect) return introspect(request)
    if (
      revoke !== undefined &&
      dialect.revoke !== undefined &&
      (revoke.endsWith('/') ? request.path.startsWith(revoke) : request.path === revoke)
    )
      return dialect.revoke(request, inside)
    return json(404, {})
  }

  const write = (
    response: ServerResponse,
    { status, body, type, location }: Answer,
    accept: string | undefined,
  ): void => {
    // https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps: a form, unless JSON is asked for.
    const asForm = name === 'github' && accept?.includes('application/json') !== true && typeof body === 'object'
    const text =
      body === undefined
        ? undefined
        : asForm
          ? new URLSearchParams(body as Record<string, string>).toString()
          : typeof body === 'string'
            ? body
            : JSON.stringify(body)
    response
      .writeHead(status, {
        ...(location === undefined ? {} : { location }),
        ...(text === undefined
          ? {}
          : {
              'content-type':
                type ??
                (asForm ? 'application/x-www-form-urlencoded; charset=utf-8' : 'application/json; charset=utf-8'),
            }),
      })
      .end(text)
  }

  const server = createServer((incoming, response) => {
    let text = ''
    incoming.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8')
    })
    incoming.on('end', () => {
      const url = new URL(incoming.url!, double.url)
      const isJson = incoming.headers['content-type']?.startsWith('application/json') === true
      const form = (isJson ? JSON.parse(text) : Object.fromEntries(new URLSearchParams(text))) as Form
      const request = { method: incoming.method!, path: url.pathname, headers: incoming.headers, text, form }
      const spoilt = url.pathname === dialect.paths.token ? double.spoil.shift() : undefined
      const answer =
        spoilt === undefined || spoilt.act === true
          ? answerTo(request, Object.fromEntries(url.searchParams))
          : json(200, { access_token: `at-${randomUUID()}`, token_type: 'Bearer', expires_in: 3600 })
      if (spoilt?.how === 'destroy') {
        response.destroy()
        return
      }
      if (spoilt?.how === 'half') {
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': 500 }).write('{"access_token":')
        setImmediate(() => {
          response.destroy()
        })
        return
      }
      write(
        response,
        spoilt === undefined
          ? answer
          : (spoilt.how as (answer: Record<string, unknown>) => Answer)(answer.body as Record<string, unknown>),
        incoming.headers.accept,
      )
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const double: ProviderDouble = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    client,
    spoil: [],
    requests: [],
    authorizations: [],
    isLive: (token) => apps.has(token) || inside.byAccess(token) !== undefined,
    hasGrants: () => grants.some((grant) => !grant.ended),
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
