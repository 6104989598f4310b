/**
 * The company's identity provider in the world: three users without passwords.
 * 1. It issues JWT access tokens (RFC 9068, ES256) for any resource that is asked for.
 * 2. It asks each time who signs in, so that a person can change the user, unless it is told to remember.
 * 3. `deputy dev token` gets tokens by a grant of its own, for which a client secret is needed.
 */
import {
  type Configuration,
  errors,
  interactionPolicy,
  type JWK,
  type KoaContextWithOIDC,
  type Provider,
} from 'oidc-provider'
import { SIGN_IN_CLIENT, TOKEN_CLIENT, TOKEN_SECONDS, USER_TOKEN_GRANT, USERS, type DevUser } from './facts.ts'
import { type OpenIdServer, startOpenIdServer } from './openid-server.ts'

export interface IdentityProviderOptions {
  readonly port: number
  readonly key: JWK
  /** Where Deputy's sign-in comes back to. */
  readonly redirectUris: readonly string[]
  readonly secrets: { readonly signIn: string; readonly token: string }
  /** Default: it asks each time who signs in. */
  readonly remembersUsers: boolean
}

/** The scope of all access tokens. */
const SCOPE = 'mcp'

const resourceServer = (resource: string) => ({
  scope: SCOPE,
  audience: resource,
  accessTokenTTL: TOKEN_SECONDS,
  accessTokenFormat: 'jwt' as const,
  jwt: { sign: { alg: 'ES256' as const } },
})

interface Interactions {
  readonly policy: interactionPolicy.DefaultPolicy
  readonly url: (context: KoaContextWithOIDC, interaction: { uid: string }) => string
}

/** When a page is shown. @param remembersUsers false: a user with a session is asked as well */
export const interactionsOf = (remembersUsers: boolean): Interactions => {
  const policy = interactionPolicy.base()
  const { Check } = interactionPolicy
  const url = (_context: KoaContextWithOIDC, { uid }: { uid: string }): string => `/interaction/${uid}`
  if (remembersUsers) return { policy, url }
  policy.get('login')?.checks.add(
    new Check('who_is_it', 'a user is chosen for each sign-in', (context) => {
      return context.oidc.result?.login === undefined ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT
    }),
  )
  return { policy, url }
}

/** A program on this machine would have to be allowed anew each time (RFC 8252 section 8.6). */
const withoutConsent = ({ policy, url }: Interactions): Interactions => {
  policy.get('consent')?.checks.remove('native_client_prompt')
  return { policy, url }
}

/** The company has allowed Deputy's client for all of its users. */
const grantToOwnClients = async (context: KoaContextWithOIDC) => {
  const { client, session, provider, params } = context.oidc
  const grant = new provider.Grant({
    ...(client === undefined ? {} : { clientId: client.clientId }),
    ...(session?.accountId === undefined ? {} : { accountId: session.accountId }),
  })
  grant.addOIDCScope('openid email offline_access')
  const resource = params?.['resource']
  if (typeof resource === 'string') grant.addResourceScope(resource, SCOPE)
  await grant.save()
  return grant
}

const groupsOf = (account: string): string[] => {
  const users: Readonly<Record<string, DevUser>> = USERS
  return [...((Object.hasOwn(users, account) ? users[account]?.groups : undefined) ?? [])]
}

const configurationOf = ({ redirectUris, secrets, remembersUsers }: IdentityProviderOptions): Configuration => ({
  scopes: ['openid', 'email', 'offline_access'],
  clients: [
    {
      client_id: SIGN_IN_CLIENT,
      client_secret: secrets.signIn,
      redirect_uris: [...redirectUris],
      application_type: 'native',
      grant_types: ['authorization_code'],
      response_types: ['code'],
    },
    {
      client_id: TOKEN_CLIENT,
      client_secret: secrets.token,
      redirect_uris: [],
      grant_types: [USER_TOKEN_GRANT],
      response_types: [],
    },
  ],
  interactions: withoutConsent(interactionsOf(remembersUsers)),
  loadExistingGrant: grantToOwnClients,
  ttl: {
    Interaction: 600,
    Session: 3600,
    Grant: TOKEN_SECONDS,
    IdToken: 300,
    AccessToken: TOKEN_SECONDS,
    AuthorizationCode: 60,
  },
  extraTokenClaims: (_context, token) =>
    'accountId' in token ? { groups: groupsOf(String(token.accountId)) } : undefined,
  features: {
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_context, resource) => resourceServer(resource),
    },
  },
})

/** The grant by which `deputy dev token` names the user. */
const addUserTokens = (provider: Provider): void => {
  const take = async (context: KoaContextWithOIDC): Promise<void> => {
    const { client, params } = context.oidc
    const [user, resource] = [params?.['user'], params?.['resource']]
    if (typeof user !== 'string' || !Object.hasOwn(USERS, user))
      throw new errors.InvalidRequest(`user has to be one of ${Object.keys(USERS).join(', ')}`)
    if (typeof resource !== 'string' || !URL.canParse(resource))
      throw new errors.InvalidTarget('resource has to be the address of the server')
    const grant = new provider.Grant({ clientId: client!.clientId, accountId: user })
    grant.addResourceScope(resource, SCOPE)
    const token = new provider.AccessToken({
      client: client!,
      accountId: user,
      grantId: await grant.save(),
      gty: USER_TOKEN_GRANT,
      scope: SCOPE,
    } as ConstructorParameters<Provider['AccessToken']>[0])
    token.resourceServer = new provider.ResourceServer(resource, resourceServer(resource))
    context.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: token.expiration }
  }
  provider.registerGrantType(USER_TOKEN_GRANT, take, ['user', 'resource'])
}

/** @throws Error of listen(2) */
export const startIdentityProvider = (options: IdentityProviderOptions): Promise<OpenIdServer> =>
  startOpenIdServer({
    title: 'Acme',
    users: USERS,
    port: options.port,
    key: options.key,
    configuration: configurationOf(options),
    prepare: addUserTokens,
  })
