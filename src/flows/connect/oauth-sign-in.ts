import * as openid from 'openid-client'
import {
  isMemberOf,
  revocationEnds,
  type Tenant,
  type TrustedIssuer,
  userIssuerOf,
  type CurrentSnapshot,
} from '#config'
import { type ProviderClient, type ReadUserinfo, revokeTokens } from '#credentials/provider'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import type { Logger } from '#foundation/telemetry'
import { displayNameOf, groupsOf, userOf, type WatchClaims } from '#identity/subject'
import type { Step } from './attempt.ts'
import { denied, refused } from './redeem-code.ts'
import type { SignedIn } from './signed-in.ts'

export interface OAuthSignInDependencies {
  readonly snapshot: CurrentSnapshot
  readonly signInClients: (tenant: Tenant) => Promise<ProviderClient>
  readonly readUserinfo: ReadUserinfo
  readonly watchClaims?: WatchClaims
  readonly logger: Logger
}

/** The URL of a sign-in at a plain OAuth provider. */
export const oauthSignInUrl = async (
  deps: OAuthSignInDependencies,
  tenant: Tenant,
  { isOtherAccount, ...parameters }: Record<string, string | boolean>,
): Promise<URL> => {
  const client = await deps.signInClients(tenant)
  const { provider } = client
  const scopes = tenant.sign_in?.scopes ?? provider.sign_in!.scopes
  return openid.buildAuthorizationUrl(client.configuration(), {
    ...provider.authorization_parameters,
    ...(parameters as Record<string, string>),
    response_type: 'code',
    ...(scopes.length === 0 ? {} : { [provider.scope_parameter]: scopes.join(provider.scope_separator) }),
    // GitHub's parameter of this name and OpenID Connect agree; others ignore it.
    ...(isOtherAccount === true ? { prompt: 'select_account' } : {}),
  })
}

const redeem = async (client: ProviderClient, answer: URL, { verifier }: Step<'sign_in'>): Promise<Secret> => {
  const { provider } = client
  let seen = ''
  const configuration = client.configuration((_status, text) => {
    seen = text
  })
  const tokens = await openid
    .authorizationCodeGrant(configuration, answer, {
      expectedState: answer.searchParams.get('state')!,
      ...(provider.pkce === 'S256' ? { pkceCodeVerifier: verifier } : {}),
    })
    .catch((error: unknown) => {
      throw error instanceof openid.AuthorizationResponseError
        ? denied(provider.name, error)
        : refused(provider.provider, error, seen)
    })
  return new Secret(tokens.access_token)
}

/** The token has told who the user is, and is of no further use. Where more would end with it than the token, it is left to expire. */
const end = async (deps: OAuthSignInDependencies, client: ProviderClient, accessToken: Secret): Promise<void> => {
  const { provider } = client
  if (provider.revocation === 'none' || revocationEnds(provider) !== 'token') return
  await revokeTokens(client, { accessToken, refreshToken: undefined }).catch((error: unknown) => {
    deps.logger.warn(
      { err: error, provider: provider.provider },
      'the access token of a sign-in could not be ended at its provider',
    )
  })
}

/**
 * Every account of the provider can sign in there: which are a tenant's, its file says.
 * @throws DeputyError `connect_denied`, `subject_tenant_unknown` where more than one tenant fits
 */
const tenantOfMember = (tenants: readonly Tenant[], groups: readonly string[]): Tenant => {
  const [tenant, another] = tenants.filter(({ sign_in: signIn }) => signIn !== undefined && isMemberOf(signIn, groups))
  if (tenant === undefined)
    throw refuse('connect_denied', {
      problem: 'your account there belongs to none of the groups whose members may sign in',
    })
  if (another !== undefined) throw refuse('subject_tenant_unknown')
  return tenant
}

/**
 * Redeems the answer of a plain OAuth provider and asks it who has signed in. The access token is not stored, and is ended.
 * @throws DeputyError of the categories grant, provider and subject
 */
export const redeemOAuthSignIn = async (
  deps: OAuthSignInDependencies,
  answer: URL,
  step: Step<'sign_in'>,
  tenants: readonly [Tenant, ...Tenant[]],
): Promise<SignedIn> => {
  const client = await deps.signInClients(tenants[0])
  const accessToken = await redeem(client, answer, step)
  try {
    const named = tenants.flatMap(({ sign_in: signIn }) => [signIn?.claims.user ?? [], signIn?.claims.display ?? []])
    const claims = await deps.readUserinfo(client, accessToken, named.flat())
    const { providers } = deps.snapshot()
    const groups = groupsOf(claims, userIssuerOf(tenants[0], step.issuer, providers)!)
    const tenant = tenantOfMember(tenants, groups)
    const issuer: TrustedIssuer = userIssuerOf(tenant, step.issuer, providers)!
    deps.watchClaims?.(tenant.tenant, issuer, claims)
    return {
      tenant: tenant.tenant,
      user: userOf(claims, issuer),
      display: displayNameOf(claims, issuer),
      issuer: step.issuer,
      groups,
      claims,
      idToken: undefined,
    }
  } finally {
    await end(deps, client, accessToken)
  }
}
