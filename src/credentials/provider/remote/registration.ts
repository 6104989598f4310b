import { z } from 'zod'
import { Secret } from '#foundation/crypto'
import type { Egress } from '#foundation/outbound'
import { askRemote, refuseRemote } from './document.ts'
import type { AuthorizationServer } from './authorization-server.ts'

/** Ways in which a client that registers itself authenticates. */
const SHARED = ['client_secret_basic', 'client_secret_post'] as const
export type RegisteredAuthentication = (typeof SHARED)[number] | 'none'

/** Deputy as a client of an authorization server. */
export interface RegisteredClient {
  readonly clientId: string
  readonly authentication: RegisteredAuthentication
  readonly secret: Secret | undefined
  /** When the secret ends (ms since the epoch); undefined: it does not. */
  readonly secretExpiresAt: number | undefined
}

const methodsOf = (server: AuthorizationServer): readonly string[] =>
  server.token_endpoint_auth_methods_supported ?? ['client_secret_basic']

/**
 * The way for a client that has a secret, or could. A secret keeps a stolen refresh token from being of use, and belongs to one tenant's
 * key; a client of every tenant, the later ones included, therefore has none where the server allows that.
 */
export const registrableAuthentication = (
  server: AuthorizationServer,
  { isPublicPreferred }: { readonly isPublicPreferred: boolean },
): RegisteredAuthentication | undefined => {
  const methods = methodsOf(server)
  const shared = SHARED.find((each) => methods.includes(each))
  const open = methods.includes('none') ? ('none' as const) : undefined
  return isPublicPreferred ? (open ?? shared) : (shared ?? open)
}

/** The way for a client that is known by its document: it shares no secret. */
export const documentAuthentication = (server: AuthorizationServer): 'private_key_jwt' | 'none' | undefined => {
  const methods = methodsOf(server)
  const algorithms = server.token_endpoint_auth_signing_alg_values_supported
  if (methods.includes('private_key_jwt') && algorithms?.includes('ES256') !== false) return 'private_key_jwt'
  return methods.includes('none') ? 'none' : undefined
}

const answerSchema = z.looseObject({
  client_id: z.string().min(1).max(2048),
  client_secret: z.string().min(1).max(8192).optional(),
  client_secret_expires_at: z.number().nonnegative().optional(),
  token_endpoint_auth_method: z.string().optional(),
  redirect_uris: z.array(z.string()).optional(),
})

/**
 * Registers Deputy (RFC 7591 section 3). What the server answers counts, not what was asked (section 3.2.1).
 * @throws DeputyError `remote_server_refused`, `egress_refused`
 */
export const registerAt = async (
  server: AuthorizationServer,
  options: {
    readonly url: string
    readonly redirectUri: string
    readonly authentication: RegisteredAuthentication
    readonly scopes: readonly string[]
    readonly egress: Egress
  },
): Promise<RegisteredClient> => {
  const { url, redirectUri, scopes } = options
  const answer = await askRemote(options.egress, server.registration_endpoint!, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      client_name: 'Deputy',
      redirect_uris: [redirectUri],
      // RFC 8252: a redirect to loopback is that of a native application.
      application_type: redirectUri.startsWith('https:') ? 'web' : 'native',
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: options.authentication,
      ...(scopes.length === 0 ? {} : { scope: scopes.join(' ') }),
    }),
  })
  if (answer.status !== 201 && answer.status !== 200)
    throw refuseRemote(
      url,
      `its authorization server refuses to register a client (${answer.status}: ${refusalIn(answer.json)})`,
    )
  const { data } = answerSchema.safeParse(answer.json)
  if (data === undefined) throw refuseRemote(url, 'its authorization server answers a registration without a client id')
  return clientIn(url, data, options)
}

const refusalIn = (json: unknown): string => {
  const { data } = z.looseObject({ error: z.string().regex(/^[\x21-\x7e]{1,60}$/) }).safeParse(json)
  return data?.error ?? 'it does not say why'
}

const clientIn = (
  url: string,
  data: z.output<typeof answerSchema>,
  {
    redirectUri,
    authentication: asked,
  }: { readonly redirectUri: string; readonly authentication: RegisteredAuthentication },
): RegisteredClient => {
  if (data.redirect_uris?.includes(redirectUri) === false)
    throw refuseRemote(url, 'its authorization server registered the client with another redirect URI')
  const method = data.token_endpoint_auth_method ?? asked
  const authentication = [...SHARED, 'none' as const].find((each) => each === method)
  if (authentication === undefined)
    throw refuseRemote(url, `its authorization server registered the client to authenticate by ${method.slice(0, 40)}`)
  if (authentication !== 'none' && data.client_secret === undefined)
    throw refuseRemote(url, 'its authorization server registered the client with a secret and did not state it')
  const until = data.client_secret_expires_at ?? 0
  return {
    clientId: data.client_id,
    authentication,
    secret: authentication === 'none' ? undefined : new Secret(data.client_secret!),
    secretExpiresAt: authentication === 'none' || until === 0 ? undefined : until * 1000,
  }
}
