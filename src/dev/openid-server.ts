/**
 * A real OpenID provider (`oidc-provider`) on 127.0.0.1. The development world has two, and so have the tests.
 * 1. It listens first, because the issuer names the port.
 * 2. Sign-in and consent are plain forms.
 * 3. Users need no password by default, so it answers to names of loopback alone (DNS rebinding), to no form of another
 *    origin, and in no frame.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { Server as TlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { type Configuration, type JWK, Provider } from 'oidc-provider'
import { LOOPBACK_HOSTS } from '#config'
import { type DevUser, LOOPBACK } from './facts.ts'
import { consentPage, page, type SignInPage, signInByButton, signInPage } from './pages.ts'

export interface OpenIdServer {
  /** Its origin, which is the issuer. */
  readonly url: string
  readonly provider: Provider
  close(): Promise<void>
}

export interface OpenIdServerOptions {
  /** Name on the pages. */
  readonly title: string
  readonly users: Readonly<Record<string, DevUser>>
  readonly configuration: Configuration
  /** Default: one of the system's choice. */
  readonly port?: number
  /** The key that it signs with (ES256); default: a new one. */
  readonly key?: JWK
  /** Default: a button for each user. */
  readonly signIn?: SignInPage
  /** Default: one for HTTP. */
  readonly createServer?: (listener: RequestListener) => Server | TlsServer
  /** Called before the first request. */
  readonly prepare?: (provider: Provider) => void
  /** Answers the paths that are not the provider's. @returns whether the path was one of its own */
  readonly serve?: (provider: Provider, request: IncomingMessage, response: ServerResponse) => Promise<boolean>
}

/** A key to sign with. */
export const newSigningKey = (): JWK => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { ...privateKey.export({ format: 'jwk' }), kid: randomBytes(8).toString('hex'), alg: 'ES256', use: 'sig' }
}

const isLoopback = (host: string | undefined): boolean =>
  LOOPBACK_HOSTS.has(URL.parse(`http://${host ?? ''}/`)?.hostname ?? '')

/** Bytes of a form at most. */
const MAX_FORM_BYTES = 10_000

/** As RFC 9112 section 3.2 has it, a request names its host. */
const refusalOf = ({ headers, method }: IncomingMessage, isForm: boolean): string | undefined => {
  if (!isLoopback(headers.host)) return 'This provider is for development and answers on loopback alone.'
  const { origin } = headers
  const isOwn = origin === undefined || URL.parse(origin)?.host === headers.host
  if (!isForm || method !== 'POST') return undefined
  if (!isOwn) return 'A form of another site is not accepted.'
  return Number(headers['content-length']) <= MAX_FORM_BYTES ? undefined : 'The form is too long.'
}

const HTML = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
  'x-frame-options': 'DENY',
  'cache-control': 'no-store',
}

const configurationOf = ({ users, configuration, key }: OpenIdServerOptions): Configuration => ({
  jwks: { keys: [key ?? newSigningKey()] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  responseTypes: ['code'],
  findAccount: (_context, id) => {
    const user = Object.hasOwn(users, id) ? users[id] : undefined
    if (user === undefined) return undefined
    const { groups = [], email } = user
    return {
      accountId: id,
      claims: () => ({ sub: id, groups: [...groups], ...(email === undefined ? {} : { email }) }),
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
  ...configuration,
  features: {
    devInteractions: { enabled: false },
    revocation: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    ...configuration.features,
  },
})

type Interaction = Awaited<ReturnType<Provider['interactionDetails']>>

/** @returns the id of the grant, with all that the request lacked */
const grantAll = async (provider: Provider, { prompt, params, session, grantId }: Interaction): Promise<string> => {
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
  return grant.save()
}

/** The pages on which a person signs in and allows access. */
const createInteraction =
  (provider: Provider, { title, users, signIn = signInByButton(users) }: OpenIdServerOptions) =>
  async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const interaction = await provider.interactionDetails(request, response)
    const { prompt, params, session } = interaction
    const show = (status: number, html: string): void => {
      response.writeHead(status, HTML).end(html)
    }
    const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')
    if (request.method !== 'POST') {
      if (prompt.name === 'login') return show(200, signInPage(title, signIn))
      const [user, client, scope] = [session?.accountId, params['client_id'], params['scope']].map(textOf)
      return show(200, consentPage(title, { user: user!, client: client!, scope: scope! }))
    }
    const form = new URLSearchParams(await text(request))
    if (prompt.name === 'login') {
      const accountId = signIn.userOf(form)
      if (accountId === undefined) return show(401, page('Sign-in failed', '<p>There is no such user.</p>'))
      const result = { login: { accountId } }
      return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false })
    }
    if (form.get('decision') === 'deny') {
      const result = { error: 'access_denied', error_description: 'The user said no.' }
      return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false })
    }
    const result = { consent: { grantId: await grantAll(provider, interaction) } }
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true })
  }

/** Starts the provider. @throws Error of listen(2), such as EADDRINUSE */
export const startOpenIdServer = async (options: OpenIdServerOptions): Promise<OpenIdServer> => {
  const { createServer: create = createServer, port = 0, prepare, serve } = options
  let handle = async (_request: IncomingMessage, response: ServerResponse): Promise<void> => {
    response.writeHead(503).end()
  }
  const server = create((request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(400, { 'content-type': 'text/plain' })
      response.end(String(error))
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, LOOPBACK, resolve)
  })
  const scheme = server instanceof TlsServer ? 'https' : 'http'
  const url = `${scheme}://${LOOPBACK}:${(server.address() as AddressInfo).port}`
  const provider = new Provider(url, configurationOf(options))
  provider.silent = true
  prepare?.(provider)
  const [callback, interact] = [provider.callback(), createInteraction(provider, options)]
  handle = async (request, response) => {
    const isForm = request.url?.startsWith('/interaction/') === true
    const refusal = refusalOf(request, isForm)
    if (refusal !== undefined) response.writeHead(403, { 'content-type': 'text/plain' }).end(refusal)
    else if (isForm) await interact(request, response)
    else if ((await serve?.(provider, request, response)) !== true) await callback(request, response)
  }
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
