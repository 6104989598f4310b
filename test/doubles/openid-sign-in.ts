/**
 * OpenID providers at which a company's users sign in, as they differ from the standard's picture. Of both: RS256, a code with PKCE and a client secret.
 *
 * Entra (pages are below https://learn.microsoft.com/en-us/entra/identity-platform):
 * - its metadata lists no `code_challenge_methods_supported` (https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration);
 * - the v2.0 endpoint refuses a `resource` that is not its own: AADSTS9010010 (reference-error-codes);
 * - `aud` of an access token is the application's GUID, and `sub` differs per application; `oid` and `tid` name the user (access-token-claims-reference);
 * - groups of users in more than 200 are left out: `_claim_names` and `_claim_sources` stand in their place (id-token-claims-reference, "Groups overage claim").
 *
 * Google (https://developers.google.com/identity/openid-connect/openid-connect):
 * - access tokens are opaque (`ya29.`); the ID token has no groups; `hd` is the Workspace domain, absent for consumer accounts.
 */
import { createHash, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SignJWT, type JWTPayload } from 'jose'
import { PASSWORD } from '../peers/openid-server.ts'

export interface OpenIdSignInDouble {
  readonly issuer: string
  readonly client: { readonly client_id: string; readonly client_secret: string }
  /** Claims of the ID tokens of each user. */
  readonly users: Record<string, JWTPayload>
  /** The parameters of the authorization requests, as they came. */
  readonly asked: URLSearchParams[]
  close(): Promise<void>
}

interface Kind {
  readonly path: string
  readonly metadata: object
  readonly refuses: (
    parameters: URLSearchParams,
  ) => { readonly error: string; readonly error_description: string } | undefined
  readonly accessToken: (sign: (claims: JWTPayload) => Promise<string>) => Promise<string>
}

const DIRECTORY = 'aaaabbbb-0000-cccc-1111-dddd2222eeee'
export const ENTRA_APPLICATION = '00001111-aaaa-2222-bbbb-3333cccc4444'

const ENTRA: Kind = {
  path: `/${DIRECTORY}/v2.0`,
  metadata: {},
  refuses: (parameters) =>
    parameters.has('resource')
      ? {
          error: 'invalid_target',
          error_description:
            "AADSTS9010010: The resource parameter provided in the request doesn't match with the requested scopes.",
        }
      : undefined,
  accessToken: (sign) => sign({ aud: ENTRA_APPLICATION, tid: DIRECTORY, scp: 'User.Read', ver: '2.0' }),
}

const GOOGLE: Kind = {
  path: '',
  metadata: { code_challenge_methods_supported: ['plain', 'S256'] },
  refuses: () => undefined,
  accessToken: () => Promise.resolve(`ya29.${randomBytes(60).toString('base64url')}`),
}

/** The claims of a user of Entra who is in more groups than fit. */
export const entraOverage = (oid: string): JWTPayload => ({
  sub: `pairwise-${oid}`,
  oid,
  tid: DIRECTORY,
  preferred_username: `${oid}@acme.example`,
  _claim_names: { groups: 'src1' },
  _claim_sources: { src1: { endpoint: `https://graph.windows.net/${DIRECTORY}/users/${oid}/getMemberObjects` } },
})

const readForm = async (request: IncomingMessage): Promise<URLSearchParams> => {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return new URLSearchParams(text)
}

/** One pair for all: an RSA key takes a tenth of a second. */
const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })

const start = async (kind: Kind): Promise<OpenIdSignInDouble> => {
  const codes = new Map<string, { readonly login: string; readonly parameters: URLSearchParams }>()
  const json = (response: ServerResponse, status: number, body: unknown): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }
  const sign = (claims: JWTPayload): Promise<string> =>
    new SignJWT({ iss: double.issuer, ...claims })
      .setProtectedHeader({ alg: 'RS256', kid: 'key', typ: 'JWT' })
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(privateKey)

  const authorize = async (url: URL, request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const parameters = url.searchParams
    const back = new URL(parameters.get('redirect_uri')!)
    back.searchParams.set('state', parameters.get('state') ?? '')
    const refusal = kind.refuses(parameters)
    if (refusal !== undefined) {
      for (const [name, value] of Object.entries(refusal)) back.searchParams.set(name, value)
      response.writeHead(302, { location: back.href }).end()
      return
    }
    if (request.method !== 'POST') {
      double.asked.push(parameters)
      response
        .writeHead(200, { 'content-type': 'text/html' })
        .end('<form method="post"><input name="login"><input name="password" type="password"></form>')
      return
    }
    const form = await readForm(request)
    const login = form.get('login') ?? ''
    if (double.users[login] === undefined || form.get('password') !== PASSWORD) {
      response.writeHead(401).end('We could not sign you in.')
      return
    }
    const code = randomBytes(16).toString('base64url')
    codes.set(code, { login, parameters })
    back.searchParams.set('code', code)
    response.writeHead(302, { location: back.href }).end()
  }

  const token = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const form = await readForm(request)
    const basic = Buffer.from(request.headers.authorization?.replace(/^Basic /, '') ?? '', 'base64').toString()
    // RFC 6749 section 2.3.1: both parts are form-encoded.
    const [id, secret] = basic.split(':').map(decodeURIComponent)
    if (id !== double.client.client_id || secret !== double.client.client_secret)
      return json(response, 401, { error: 'invalid_client' })
    const code = codes.get(form.get('code') ?? '')
    codes.delete(form.get('code') ?? '')
    const challenge = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url')
    if (
      code?.parameters.get('code_challenge') !== challenge ||
      form.get('redirect_uri') !== code.parameters.get('redirect_uri')
    )
      return json(response, 400, { error: 'invalid_grant' })
    json(response, 200, {
      access_token: await kind.accessToken((claims) => sign({ sub: randomUUID(), ...claims })),
      token_type: 'Bearer',
      expires_in: 3599,
      scope: 'openid profile email',
      id_token: await sign({
        aud: double.client.client_id,
        nonce: code.parameters.get('nonce') ?? undefined,
        ...double.users[code.login],
      } as JWTPayload),
    })
  }

  const server = createServer((request, response) => {
    void (async () => {
      const url = new URL(request.url!, origin)
      const at = url.pathname.slice(kind.path.length)
      if (!url.pathname.startsWith(kind.path)) json(response, 404, {})
      else if (at === '/.well-known/openid-configuration')
        json(response, 200, {
          issuer: double.issuer,
          authorization_endpoint: `${double.issuer}/authorize`,
          token_endpoint: `${double.issuer}/token`,
          jwks_uri: `${double.issuer}/keys`,
          response_types_supported: ['code'],
          subject_types_supported: ['pairwise'],
          id_token_signing_alg_values_supported: ['RS256'],
          token_endpoint_auth_methods_supported: ['client_secret_post', 'client_secret_basic'],
          ...kind.metadata,
        })
      else if (at === '/keys')
        json(response, 200, {
          keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'key', use: 'sig', alg: 'RS256' }],
        })
      else if (at === '/authorize') await authorize(url, request, response)
      else if (at === '/token' && request.method === 'POST') await token(request, response)
      else json(response, 404, {})
    })()
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const double: OpenIdSignInDouble = {
    issuer: `${origin}${kind.path}`,
    client: { client_id: ENTRA_APPLICATION, client_secret: 'openid-client-secret' },
    users: {},
    asked: [],
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

export const startEntraSignIn = (): Promise<OpenIdSignInDouble> => start(ENTRA)
export const startGoogleSignIn = (): Promise<OpenIdSignInDouble> => start(GOOGLE)
