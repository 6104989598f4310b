import { createPublicKey, type JsonWebKey } from 'node:crypto'
import {
  type Account,
  type Configuration,
  errors,
  ExternalSigningKey,
  interactionPolicy,
  type KoaContextWithOIDC,
  Provider,
} from 'oidc-provider'
import { toSeconds } from '#clock'
import { scopesAt, type Server, type Snapshot } from '#config'
import { DeputyError } from '#errors'
import { createKeyedDigest, type Secret } from '#foundation/crypto'
import type { SigningKeys } from '#foundation/keys'
import { type ClientSignIn, isClientAllowed, isVouchedFor } from '#identity/client'
import { trustOfSignIn } from '#identity/subject'
import { assertStillValid, dependenciesOfSignIn, type ValidityDependencies } from '#identity/validity'
import { type CheckClientSecret, isInUse } from '#identity/workload'
import { errorPage } from '#flows/connect'
import { paths } from '#listeners/http'
import { deviceFeature } from './device.ts'
import { type AdapterDependencies, createAdapters } from './adapter.ts'
import { compareSecrets, grantTypesOf } from './clients.ts'
import { createDocuments, type DocumentDependencies } from './documents.ts'
import { showPage } from './show-page.ts'
import { shownScopes, USE } from './scopes.ts'

export interface ProviderDependencies extends AdapterDependencies, ValidityDependencies, DocumentDependencies {
  readonly clientRegistry: AdapterDependencies['clientRegistry']
  readonly checkSecret: CheckClientSecret
  readonly signingKeys: SigningKeys
  /** Key of browsers' cookies and of refresh tokens, in base64. */
  readonly cookieKey: Secret
  readonly correlationId: () => string
}

/** The grants that clients are given here. */
export const GRANT_TYPES = grantTypesOf(true)

/** How long a code, an interaction and a user's time at a device page last (s). */
const [CODE_SECONDS, INTERACTION_SECONDS, DEVICE_SECONDS] = [60, 600, 600]

/** The member under which the sign-in stands in the library's account. */
const SIGN_IN = 'signIn'

/** The sign-in of a token request, which `findAccount` has read and checked. */
export const signInOf = (context: KoaContextWithOIDC): ClientSignIn | undefined =>
  context.oidc.account?.[SIGN_IN] as ClientSignIn | undefined

/** The servers at which users sign in through Deputy. */
export const serversOf = ({ servers }: Snapshot): Server[] =>
  [...servers.values()].filter((server) => server.sign_in === 'deputy' && isInUse(server))

/** Requests in which a client asks for scopes, as against those in which it uses what it has. */
const ASKING = new Set(['authorization', 'pushed_authorization_request', 'device_authorization'])

/** What a client asks for at a server: what the server does not know is left out, and nothing means what every use needs. */
const askedScopes = (server: Server, scope: unknown): string => {
  const asked = typeof scope === 'string' ? scope.split(' ') : []
  const known = scopesAt(server).filter((each) => asked.includes(each))
  return [USE, ...(known.length > 0 ? known : server.basic_scopes)].join(' ')
}

/** Deputy's own key for tokens, which changes while the library runs and stays where it is. */
const signingKeyOf = (keys: SigningKeys): ExternalSigningKey =>
  new (class extends ExternalSigningKey {
    override get kid(): string {
      return keys.kid('token')
    }
    override get alg(): string {
      return keys.algorithm('token')
    }
    override keyObject() {
      const { keys: published } = keys.jwks('token')
      const key = published.find(({ kid }) => kid === keys.kid('token'))
      return createPublicKey({ format: 'jwk', key: key as JsonWebKey })
    }
    override sign(data: Uint8Array): Uint8Array {
      return keys.sign('token', data).signature
    }
  })()

/** What a token says besides the claims of RFC 9068 that the library writes. */
const addClaims = (context: KoaContextWithOIDC, { payload }: { payload: Record<string, unknown> }): void => {
  const signIn = signInOf(context)
  if (signIn === undefined) return
  const { id, tenant, user, client, groups, claims, signedInAt } = signIn
  const { acr } = claims
  Object.assign(payload, {
    sub: user,
    tenant,
    sid: id,
    groups,
    auth_time: toSeconds(signedInAt),
    ...(typeof acr === 'string' ? { acr } : {}),
    act: { sub: client, client_id: client },
    anc: dependenciesOfSignIn(signIn).tokens,
  })
  const shown = shownScopes(String(payload['scope'] ?? '').split(' ')).join(' ')
  if (shown === '') delete payload['scope']
  else payload['scope'] = shown
}

/** The one resource that a request may name (RFC 8707): a server at which users sign in here. */
const resourceServerOf = (context: KoaContextWithOIDC, snapshot: Snapshot, resource: string) => {
  const server = serversOf(snapshot).find((each) => each.resource === resource)
  if (server === undefined) throw new errors.InvalidTarget('the resource is no server at which users sign in here')
  const { route, params } = context.oidc
  if (params !== undefined && ASKING.has(route)) params['scope'] = askedScopes(server, params['scope'])
  return {
    scope: [USE, ...scopesAt(server)].join(' '),
    audience: server.resource,
    accessTokenFormat: 'jwt' as const,
    accessTokenTTL: toSeconds(snapshot.settings.tokens.lifetime),
    jwt: { sign: { alg: 'ES256' as const } },
  }
}

const features = ({ snapshot }: ProviderDependencies): Configuration['features'] => ({
  devInteractions: { enabled: false },
  rpInitiatedLogout: { enabled: false },
  userinfo: { enabled: false },
  revocation: {
    enabled: true,
    allowedPolicy: (_context, client, token) => token.clientId === client.clientId,
  },
  pushedAuthorizationRequests: { enabled: true },
  dPoP: { enabled: true },
  deviceFlow: deviceFeature,
  externalSigningSupport: { enabled: true, ack: 'experimental-01' },
  resourceIndicators: {
    enabled: true,
    defaultResource(_context, _client, oneOf) {
      const [named] = oneOf ?? []
      if (named !== undefined) return named
      // Clients of before 2025-06-18 name no resource: where there is one server, it is meant.
      const [only, another] = serversOf(snapshot())
      if (only === undefined || another !== undefined)
        throw new errors.InvalidTarget('name the server in the parameter resource')
      return only.resource
    },
    useGrantedResource: () => true,
    getResourceServerInfo: (context, resource) => resourceServerOf(context, snapshot(), resource),
  },
})

/** What a person can do about an error, where there is more than to start again. */
const NEXT: Readonly<Record<string, string>> = {
  invalid_client:
    'Remove the server from your MCP client and add it again, so that the client makes itself known anew. If that does not help, send what stands here to the administrator of the server.',
}
const NEXT_ELSE =
  'Go back to your MCP client and start again. If that does not help, tell its developer what stands here.'

/** What an id is shown of, where it is one: it came from outside. */
const shownId = (id: unknown): string =>
  typeof id === 'string' && id !== '' ? ` The client's id is ${id.replace(/[^\x21-\x7e]/g, '?').slice(0, 200)}.` : ''

/** Every error has a page that a person understands, with the id under which the log has it. */
const renderError = (
  context: KoaContextWithOIDC,
  { error, error_description: description }: { error: string; error_description?: string | undefined },
  correlationId: string,
): void => {
  // An unknown client is told by its id alone, which its developer and an administrator look for.
  const client = error === 'invalid_client' ? shownId(context.query['client_id']) : ''
  const page = errorPage(
    `The sign-in could not go on (${error}${description === undefined ? '' : `: ${description}`}).${client}`,
    NEXT[error] ?? NEXT_ELSE,
    correlationId,
  )
  showPage(context, page)
  // Errors that are made for a redirection have its status.
  if (context.status < 400) context.status = 400
}

/** The user of a token request: a sign-in that has not ended, and of which everything is still valid. */
const findAccount = async (deps: ProviderDependencies, id: string): Promise<Account | undefined> => {
  const signIn = await deps.clientSessions.find(id)
  if (signIn === undefined) return undefined
  const snapshot = deps.snapshot()
  if (!isClientAllowed(signIn.client, signIn, snapshot) || trustOfSignIn(signIn, snapshot) === undefined)
    return undefined
  try {
    assertStillValid(dependenciesOfSignIn(signIn), deps)
  } catch (error) {
    if (error instanceof DeputyError && !error.kind.retryable) return undefined
    throw error
  }
  return { accountId: id, claims: () => ({ sub: id }), [SIGN_IN]: signIn }
}

const configurationOf = (deps: ProviderDependencies): Configuration => {
  const { snapshot, cookieKey } = deps
  const { refresh_lifetime: refreshLifetime } = snapshot().settings.sign_in
  const documents = createDocuments(deps, GRANT_TYPES)
  return {
    adapter: createAdapters(deps, GRANT_TYPES),
    fetch: (input) => documents.fetch(input),
    jwks: { keys: [signingKeyOf(deps.signingKeys)] },
    cookies: {
      keys: [createKeyedDigest(cookieKey)('authorization-server-cookies')],
      names: {
        session: 'deputy_device',
        interaction: 'deputy_sign_in',
        resume: 'deputy_sign_in_resume',
      },
    },
    scopes: ['offline_access'],
    claims: {},
    responseTypes: ['code'],
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    clientDefaults: {
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'none',
      id_token_signed_response_alg: 'ES256',
    },
    enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
    features: { ...features(deps), clientIdMetadataDocument: documents.feature },
    formats: {
      customizers: {
        jwt: (context, _token, parts) => {
          addClaims(context, parts as { payload: Record<string, unknown> })
        },
      },
    },
    pkce: { required: () => true },
    rotateRefreshToken: () => true,
    issueRefreshToken: (_context, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: () => false,
    interactions: {
      policy: interactionPolicy.base(),
      url: (_context, interaction) => `/sign-in/${interaction.uid}`,
    },
    // Browser-based clients call from the origin that their redirect URI has.
    clientBasedCORS: (_context, origin, client) =>
      client.redirectUris?.some((uri) => URL.parse(uri)?.origin === origin) ?? false,
    findAccount: (_context, id) => findAccount(deps, id),
    renderError: (context, out) => {
      renderError(context, out, String(context.state['correlationId']))
    },
    routes: {
      authorization: paths.authorize,
      token: paths.token,
      pushed_authorization_request: paths.pushedAuthorization,
      revocation: paths.revoke,
      jwks: '/oauth2/jwks',
      device_authorization: paths.deviceAuthorization,
      code_verification: paths.device,
    },
    ttl: {
      AccessToken: toSeconds(snapshot().settings.tokens.lifetime),
      AuthorizationCode: CODE_SECONDS,
      DeviceCode: DEVICE_SECONDS,
      Grant: toSeconds(snapshot().settings.sign_in.session_lifetime),
      Interaction: INTERACTION_SECONDS,
      Session: INTERACTION_SECONDS,
      RefreshToken: (context) => {
        const left = (signInOf(context)?.expiresAt ?? Infinity) - deps.clock.now()
        return Math.max(1, toSeconds(Math.min(refreshLifetime, left)))
      },
    },
  }
}

/**
 * Errors of a client that describes itself go to a page, and not to the address that it names: anyone can register one,
 * and the address of this server would then lead users there who have not seen the client yet (RFC 9700 section
 * 4.11.2). An address on the user's own machine leads to no other.
 */
const keepOnPage = (snapshot: Snapshot, context: KoaContextWithOIDC, error: Error): void => {
  const { client, params, route } = context.oidc
  const redirectUri = URL.parse(String(params?.['redirect_uri'] ?? context.query['redirect_uri']))
  if (route !== 'authorization' || client === undefined || redirectUri?.protocol !== 'https:') return
  if (!isVouchedFor(client.clientId, snapshot)) Object.assign(error, { allow_redirect: false })
}

/**
 * The authorization server for MCP clients: the certified `oidc-provider`, with Deputy's store, keys and checks behind it. It
 * issues no ID tokens: who the user is, the identity provider says to Deputy.
 */
export const createProvider = (deps: ProviderDependencies): Provider => {
  const provider = new Provider(deps.issuer, configurationOf(deps))
  // Host and scheme are set by the listener, whatever the request says.
  provider.proxy = true
  compareSecrets(provider, deps.checkSecret)
  const keep = (context: KoaContextWithOIDC, error: Error): void => {
    keepOnPage(deps.snapshot(), context, error)
  }
  // The library tells of an error before it answers.
  provider.on('authorization.error', keep)
  provider.on('server_error', keep)
  // A refresh token that is asked for again is the same text again, so that two are never alive (see `mayRetry`).
  const refreshToken = provider.RefreshToken.prototype as unknown as {
    generateTokenId: (this: { grantId?: string; rotations?: number }) => string
  }
  const digest = createKeyedDigest(deps.cookieKey)
  refreshToken.generateTokenId = function () {
    return digest('refresh-token', this.grantId ?? '', String(this.rotations ?? 0))
  }
  return provider
}
