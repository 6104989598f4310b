/**
 * What both peers share: a real oidc-provider on 127.0.0.1.
 * 1. It listens first, because the issuer names the port.
 * 2. With `tls` it speaks https, and asks for clients' certificates.
 * 3. Sign-in and consent are plain forms; every user's password is `PASSWORD`.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { Provider, type Configuration } from 'oidc-provider'
import { createBrowser, type Page } from './walk.ts'

export const PASSWORD = 'correct horse'
export interface PeerUser {
  readonly groups?: readonly string[]
  readonly email?: string
}
export interface OpenIdServer {
  readonly url: string
  readonly provider: Provider
  close(): Promise<void>
}

const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
const page = (title: string, body: string): string =>
  `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escape(title)}</title></head><body><main><h1>${escape(title)}</h1>${body}</main></body></html>`

const readForm = async (request: IncomingMessage): Promise<URLSearchParams> => {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return new URLSearchParams(text)
}

export const startOpenIdServer = async (options: {
  title: string
  users: Readonly<Record<string, PeerUser>>
  configuration: Configuration
  tls?: { readonly cert: string; readonly key: string; readonly ca: string }
  answered?: (path: string, status: number) => void
}): Promise<OpenIdServer> => {
  let handle: (request: IncomingMessage, response: ServerResponse) => Promise<void> = async (_request, response) => {
    response.writeHead(503).end()
  }
  const listener: RequestListener = (request, response) => {
    response.once('finish', () => {
      options.answered?.(new URL(request.url!, url).pathname, response.statusCode)
    })
    handle(request, response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(400, { 'content-type': 'text/plain' })
      response.end(String(error))
    })
  }
  const server =
    options.tls === undefined
      ? createServer(listener)
      : createTlsServer({ ...options.tls, requestCert: true, rejectUnauthorized: false }, listener)
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const url = `${options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const key = { ...privateKey.export({ format: 'jwk' }), kid: 'peer', alg: 'ES256', use: 'sig' }
  const provider = new Provider(url, {
    jwks: { keys: [key] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    responseTypes: ['code'],
    findAccount: (_context, id) => {
      const user = options.users[id]
      if (user === undefined) return undefined
      return {
        accountId: id,
        claims: () => ({
          sub: id,
          groups: [...(user.groups ?? [])],
          ...(user.email === undefined ? {} : { email: user.email }),
        }),
      }
    },
    claims: { openid: ['sub', 'groups'], email: ['email'] },
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
    ttl: {
      Interaction: 600,
      Session: 3600,
      Grant: 86_400,
      IdToken: 300,
      AccessToken: 300,
      RefreshToken: 86_400,
      AuthorizationCode: 60,
    },
    ...options.configuration,
    features: {
      devInteractions: { enabled: false },
      revocation: { enabled: true },
      pushedAuthorizationRequests: { enabled: true },
      ...options.configuration.features,
    },
  })
  provider.silent = true
  // Five seconds, which is the default (RFC 8628 section 3.2), are long for a test.
  provider.use(async (context, next) => {
    await next()
    const body = context.body as { device_code?: string } | undefined
    if (body?.device_code !== undefined) context.body = { ...body, interval: 1 }
  })
  const callback = provider.callback()

  const interact = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { prompt, params, session, grantId } = await provider.interactionDetails(request, response)
    const show = (status: number, title: string, body: string): void => {
      response.writeHead(status, { 'content-type': 'text/html; charset=utf-8' }).end(page(title, body))
    }
    if (request.method !== 'POST') {
      if (prompt.name === 'login')
        return show(
          200,
          `${options.title}: sign in`,
          '<form method="post"><label>User <input name="login" autocomplete="username"></label> <label>Password <input name="password" type="password"></label> <button name="submit">Sign in</button></form>',
        )
      return show(
        200,
        `${options.title}: allow access`,
        `<p>${escape(String(params['client_id']))} asks for ${escape(typeof params['scope'] === 'string' ? params['scope'] : '')}</p><form method="post"><button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></form>`,
      )
    }
    const form = await readForm(request)
    if (prompt.name === 'login') {
      const login = form.get('login') ?? ''
      if (!Object.hasOwn(options.users, login) || form.get('password') !== PASSWORD)
        return show(401, 'Sign-in failed', '<p>Wrong user or password.</p>')
      return provider.interactionFinished(
        request,
        response,
        { login: { accountId: login } },
        { mergeWithLastSubmission: false },
      )
    }
    if (form.get('decision') === 'deny') {
      return provider.interactionFinished(
        request,
        response,
        { error: 'access_denied', error_description: 'The user said no.' },
        { mergeWithLastSubmission: false },
      )
    }
    const existing = grantId === undefined ? undefined : await provider.Grant.find(grantId)
    const grant =
      existing ?? new provider.Grant({ accountId: session?.accountId ?? '', clientId: String(params['client_id']) })
    const details = prompt.details as {
      missingOIDCScope?: string[]
      missingOIDCClaims?: string[]
      missingResourceScopes?: Record<string, string[]>
    }
    if (details.missingOIDCScope !== undefined) grant.addOIDCScope(details.missingOIDCScope.join(' '))
    if (details.missingOIDCClaims !== undefined) grant.addOIDCClaims(details.missingOIDCClaims)
    for (const [resource, scopes] of Object.entries(details.missingResourceScopes ?? {}))
      grant.addResourceScope(resource, scopes.join(' '))
    return provider.interactionFinished(
      request,
      response,
      { consent: { grantId: await grant.save() } },
      { mergeWithLastSubmission: true },
    )
  }
  handle = (request, response) =>
    request.url?.startsWith('/interaction/') === true ? interact(request, response) : callback(request, response)

  return {
    url,
    provider,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
}

/** Walks sign-in and consent from an authorization URL to the redirect back, and returns that redirect's URL. */
export const walkAuthorization = async (options: {
  authorizationUrl: string
  redirectUri: string
  user: string
  decision?: 'allow' | 'deny'
}): Promise<URL> => {
  const browser = createBrowser({ stopAt: (url) => url.startsWith(`${options.redirectUri}?`) })
  let at: Page = await browser.open(options.authorizationUrl)
  for (let step = 0; step < 5 && at.status !== 0; step += 1) {
    if (!at.body.includes('<form')) break
    at = at.body.includes('name="login"')
      ? await browser.submit(at, { login: options.user, password: PASSWORD })
      : await browser.submit(at, { decision: options.decision ?? 'allow' })
  }
  if (at.status !== 0)
    throw new Error(
      `the sign-in of ${options.user} ended at ${at.url} with ${at.status}: ${at.body.slice(Math.max(0, at.body.indexOf('<main>')), 2000).slice(0, 600)}`,
    )
  return new URL(at.url)
}
