/**
 * What the peers share: the OpenID provider of the development world, with passwords.
 * 1. With `tls` it speaks https, and asks for clients' certificates.
 * 2. Every user's password is `PASSWORD`.
 */
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { Provider } from 'oidc-provider'
import { type DevUser, type OpenIdServer, type OpenIdServerOptions, startOpenIdServer as start } from '#dev'
import { createBrowser, type Page } from './walk.ts'

export type { OpenIdServer }
export type PeerUser = DevUser
export const PASSWORD = 'correct horse'

const FIELDS =
  '<label>User <input name="login" autocomplete="username"></label> <label>Password <input name="password" type="password"></label> <button name="submit">Sign in</button>'

/** Five seconds, which is the default (RFC 8628 section 3.2), are long for a test. */
const askEachSecond = (provider: Provider): void => {
  provider.use(async (context, next) => {
    await next()
    const body = context.body as { device_code?: string } | undefined
    if (body?.device_code !== undefined) context.body = { ...body, interval: 1 }
  })
}

export const startOpenIdServer = (
  options: Pick<OpenIdServerOptions, 'title' | 'users' | 'configuration'> & {
    tls?: { readonly cert: string; readonly key: string; readonly ca: string }
    answered?: (path: string, status: number) => void
  },
): Promise<OpenIdServer> => {
  const { users, tls, answered } = options
  return start({
    ...options,
    signIn: {
      fields: FIELDS,
      userOf: (form) => {
        const login = form.get('login') ?? ''
        return Object.hasOwn(users, login) && form.get('password') === PASSWORD ? login : undefined
      },
    },
    prepare: askEachSecond,
    createServer: (listener) => {
      const heard: RequestListener = (request, response) => {
        response.once('finish', () => {
          answered?.(request.url!.split('?', 1)[0]!, response.statusCode)
        })
        listener(request, response)
      }
      return tls === undefined
        ? createServer(heard)
        : createTlsServer({ ...tls, requestCert: true, rejectUnauthorized: false }, heard)
    },
  })
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
