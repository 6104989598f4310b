/** A daemon at which MCP clients sign users in, with a company's identity provider, and the requests of a client. */
import { createHash, randomBytes } from 'node:crypto'
import { type CompanyIdp, SIGN_IN_CLIENT, startCompanyIdp } from '../peers/company-idp.ts'
import { walkAuthorization } from '../peers/openid-server.ts'
import { type Files, prepareDaemonHere, type RunningDaemon } from './daemon.ts'

export const RESOURCE = 'https://notes.example/mcp'
export const REDIRECT_URI = 'http://127.0.0.1:1/callback'

/** Where the requests of a client go. */
export interface SignInPlace {
  readonly url: string
}

export interface SignInWorld<D extends RunningDaemon = RunningDaemon> extends SignInPlace {
  readonly daemon: D
  readonly idp: CompanyIdp
  close(): Promise<void>
}

export interface Tokens {
  readonly status: number
  readonly headers: Headers
  readonly access_token?: string
  readonly refresh_token?: string
  readonly expires_in?: number
  readonly scope?: string
  readonly error?: string
  readonly error_description?: string
}

/** The files of a tenant whose users sign in at the identity provider, and of a server at which they sign in through Deputy. */
export const signInFiles = (idp: CompanyIdp): Files => ({
  'tenants/acme.yaml': {
    tenant: 'acme',
    name: 'Acme',
    issuers: [{ issuer: idp.issuer, algorithms: ['ES256'] }],
    sign_in: {
      issuer: idp.issuer,
      client_id: SIGN_IN_CLIENT.client_id,
      client_secret: { file: 'secrets/sign-in' },
    },
  },
  'secrets/sign-in': SIGN_IN_CLIENT.client_secret,
  'servers/notes.yaml': {
    server: 'notes',
    name: 'Notes',
    resource: RESOURCE,
    tenants: ['acme'],
    owner: 'notes@company.example',
    status: 'approved',
    sign_in: 'deputy',
    attest: [{ unix: { uid: process.getuid?.() ?? 0 } }],
    basic_scopes: ['notes:read'],
    tools: { add_note: { requires: ['notes:write'] } },
    downstreams: { api: { scopes: [] } },
  },
  'downstreams/api.yaml': {
    downstream: 'api',
    credential: 'minted',
    resource: 'https://api.example',
    tenants: ['acme'],
  },
  'policies/access/all.cedar': 'permit (principal is Deputy::User, action, resource);',
})

type MoreFiles = (world: { idp: CompanyIdp; port: number }) => Files | Promise<Files>

/** @param more files beside those of the world, or in their place */
export const startSignInWorld = async (
  more: MoreFiles = () => ({}),
  settings: Record<string, unknown> = {},
): Promise<SignInWorld> => startSignInAt(await prepareDaemonHere({}, settings), more)

/** @param daemon that is not started yet */
export const startSignInAt = async <D extends RunningDaemon>(
  daemon: D,
  more: MoreFiles = () => ({}),
): Promise<SignInWorld<D>> => {
  const url = `http://127.0.0.1:${daemon.port}`
  const idp = await startCompanyIdp({ resources: [], redirectUris: [`${url}/connect/signed-in`] })
  const close = async (): Promise<void> => {
    await daemon.close()
    await idp.close()
  }
  try {
    await daemon.write({ ...signInFiles(idp), ...(await more({ idp, port: daemon.port })) })
    await daemon.start()
  } catch (error) {
    await close()
    throw error
  }
  return { daemon, idp, url, close }
}

const form = async (
  url: string,
  fields: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<Tokens> => {
  const response = await fetch(url, { method: 'POST', body: new URLSearchParams(fields), headers })
  const body = (await response.json().catch(() => ({}))) as object
  return { ...body, status: response.status, headers: response.headers }
}

/** Registers a public client (RFC 7591), as MCP clients do that know nothing. @returns its id */
export const registerClient = async ({ url }: SignInPlace, metadata: object = {}): Promise<string> => {
  const response = await fetch(`${url}/oauth2/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      client_name: 'Test client',
      redirect_uris: [REDIRECT_URI],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
      ...metadata,
    }),
  })
  const body = (await response.json()) as { client_id?: string }
  if (response.status !== 201 || body.client_id === undefined)
    throw new Error(`not registered: ${response.status} ${JSON.stringify(body)}`)
  return body.client_id
}

export interface Authorization {
  readonly back: URL
  readonly verifier: string
  readonly client: string
}

/** The authorization request of a client. */
export const authorizationUrl = (
  { url }: SignInPlace,
  client: string,
  parameters: Record<string, string> = {},
): { url: string; verifier: string } => {
  const verifier = randomBytes(32).toString('base64url')
  const at = new URL(`${url}/oauth2/authorize`)
  at.search = new URLSearchParams({
    client_id: client,
    redirect_uri: REDIRECT_URI,
    response_type: 'code',
    resource: RESOURCE,
    state: randomBytes(8).toString('base64url'),
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
    ...parameters,
  }).toString()
  return { url: at.href, verifier }
}

/** Walks sign-in and consent as a user does. */
export const authorize = async (
  world: SignInPlace,
  client: string,
  options: { user?: string; parameters?: Record<string, string>; decision?: 'allow' | 'deny' } = {},
): Promise<Authorization> => {
  const { url, verifier } = authorizationUrl(world, client, options.parameters)
  const back = await walkAuthorization({
    authorizationUrl: url,
    redirectUri: options.parameters?.['redirect_uri'] ?? REDIRECT_URI,
    user: options.user ?? 'alice',
    ...(options.decision === undefined ? {} : { decision: options.decision }),
  })
  return { back, verifier, client }
}

export const redeemCode = (
  { url }: SignInPlace,
  { back, verifier, client }: Authorization,
  fields: Record<string, string> = {},
): Promise<Tokens> =>
  form(`${url}/oauth2/token`, {
    grant_type: 'authorization_code',
    code: back.searchParams.get('code') ?? '',
    redirect_uri: REDIRECT_URI,
    client_id: client,
    code_verifier: verifier,
    resource: RESOURCE,
    ...fields,
  })

export const refreshTokens = (
  { url }: SignInPlace,
  client: string,
  refreshToken: string,
  fields: Record<string, string> = {},
): Promise<Tokens> =>
  form(`${url}/oauth2/token`, {
    grant_type: 'refresh_token',
    client_id: client,
    refresh_token: refreshToken,
    resource: RESOURCE,
    ...fields,
  })

/** From nothing to tokens. */
export const signInAtClient = async (
  world: SignInPlace,
  client: string,
  options: Parameters<typeof authorize>[2] & { readonly fields?: Record<string, string> } = {},
): Promise<Tokens> => redeemCode(world, await authorize(world, client, options), options.fields)
