import * as openid from 'openid-client'
import type { Random } from '#clock'
import { type CurrentSnapshot, type SignInSettings, signInIssuer, type Snapshot, type Tenant } from '#config'
import { failureOf, type IdentityProviders, isPushed, refusalOfIssuer, wordsOf } from '#credentials/provider'
import { DeputyError, refuse } from '#errors'
import { randomText, Secret } from '#foundation/crypto'
import { displayNameOf, groupsOf, presentClaims, tenantOf, userOf, type WatchClaims } from '#identity/subject'
import type { Attempts, Purpose, Step } from './attempt.ts'
import { assertIssuer } from './answer-issuer.ts'
import { oauthSignInUrl, type OAuthSignInDependencies, redeemOAuthSignIn } from './oauth-sign-in.ts'
import type { SignedIn } from './signed-in.ts'

export type { SignedIn }

interface SignInDependencies extends OAuthSignInDependencies {
  readonly snapshot: CurrentSnapshot
  readonly identityProviders: IdentityProviders
  readonly attempts: Attempts
  readonly random: Random
  /** Where identity providers send the browser back to. */
  readonly redirectUri: () => string
}

/** Whom the identity provider is told to expect: the user of a connect link where the file says so, or whom a client has named. */
const loginHint = ({ login_hint: isTold }: SignInSettings, purpose: Purpose): { login_hint?: string } => {
  if (purpose.kind === 'connect' && isTold) return { login_hint: purpose.wish.user }
  if (purpose.kind === 'client' && purpose.wish.loginHint !== undefined) return { login_hint: purpose.wish.loginHint }
  return {}
}

/** The URL of a sign-in at the identity provider: pushed where it is so configured (RFC 9126). @throws DeputyError `provider_refused`, those of the issuer */
const urlOf = async (
  configuration: openid.Configuration,
  { issuer, par }: { readonly issuer: string; readonly par: SignInSettings['par'] },
  parameters: Record<string, string>,
): Promise<URL> => {
  const server = configuration.serverMetadata()
  const url = !isPushed({ provider: issuer, par, server, hasDocument: false })
    ? openid.buildAuthorizationUrl(configuration, parameters)
    : await openid.buildAuthorizationUrlWithPAR(configuration, parameters).catch((error: unknown) => {
        throw refusalOfIssuer(issuer, error)
      })
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw refuse('provider_refused', {
      provider: issuer,
      problem: 'its authorization endpoint is no http or https URL',
    })
  return url
}

/** The refusal of an answer that could not be redeemed. */
export const refusalOfSignIn = (issuer: string, error: unknown): DeputyError => {
  if (error instanceof DeputyError) return error
  if (error instanceof openid.AuthorizationResponseError)
    return refuse('connect_denied', { problem: 'the sign-in was not completed' }, error)
  // Where the identity provider does not answer, the user has done nothing wrong.
  const failure = failureOf(error)
  if (failure === 'not_sent' || failure === 'lost') return refusalOfIssuer(issuer, error)
  const problem =
    error instanceof openid.ResponseBodyError
      ? `the identity provider refused to redeem the sign-in (${wordsOf(error)})`
      : "the identity provider's answer could not be verified"
  return refuse('connect_invalid', { problem }, error)
}

/**
 * The user whom the ID token of an answer names.
 * @param signedInAt the issuer that was asked.
 * @throws DeputyError `connect_invalid`, `subject_tenant_unknown`
 */
export const signedInBy = (
  tokens: Pick<openid.TokenEndpointResponse & openid.TokenEndpointResponseHelpers, 'id_token' | 'claims'>,
  tenants: readonly Tenant[],
  signedInAt: string,
  watchClaims: WatchClaims | undefined,
): SignedIn => {
  const said = tokens.claims() as Readonly<Record<string, unknown>> | undefined
  const claims = said === undefined ? undefined : presentClaims(said)
  const trusted = tenants.flatMap((tenant) =>
    tenant.issuers.filter(({ issuer }) => issuer === signedInAt).map((issuer) => ({ tenant, issuer })),
  )
  if (claims === undefined || tokens.id_token === undefined)
    throw refuse('connect_invalid', { problem: 'the identity provider did not say who signed in' })
  const { tenant, issuer } = tenantOf(claims, trusted)
  watchClaims?.(tenant.tenant, issuer, claims)
  return {
    tenant: tenant.tenant,
    user: userOf(claims, issuer),
    display: displayNameOf(claims, issuer),
    issuer: issuer.issuer,
    groups: groupsOf(claims, issuer),
    claims,
    idToken: new Secret(tokens.id_token),
  }
}

/** Whether the tenants sign in at more than one identity provider. */
const areSeveral = ({ tenants, providers }: Snapshot): boolean =>
  new Set([...tenants.values()].flatMap((tenant) => signInIssuer(tenant, providers) ?? [])).size > 1

/**
 * Where the provider sends the browser back to. An answer that does not say who it comes from (RFC 9207) could be that of another
 * provider, which the one that was asked has sent the browser to. So a tenant whose provider does not say it has an address of its own,
 * where there is another provider: an answer of the other one does not come there (RFC 9700 section 4.4.2.2).
 * @param server the provider's metadata; undefined for a plain OAuth provider
 */
const redirectUriOf = (
  { redirectUri, snapshot }: SignInDependencies,
  { tenant, sign_in: signIn }: Tenant,
  server: openid.ServerMetadata | undefined,
): string => {
  const isNamed = server?.authorization_response_iss_parameter_supported === true
  const isShared = signIn?.redirect_uri === 'shared' || isNamed || !areSeveral(snapshot())
  return server !== undefined && signIn?.redirect_uri !== 'own' && isShared
    ? redirectUri()
    : `${redirectUri()}/${tenant}`
}

const begin = async (
  deps: SignInDependencies,
  tenant: Tenant,
  browser: string,
  { purpose, isOtherAccount }: { readonly purpose: Purpose; readonly isOtherAccount: boolean },
): Promise<URL> => {
  const signIn = tenant.sign_in
  const issuer = signInIssuer(tenant, deps.snapshot().providers)
  if (signIn === undefined || issuer === undefined)
    throw refuse('connect_invalid', {
      problem: `the tenant ${tenant.tenant} has no sign-in; an admin has to set sign_in in its file`,
    })
  const [verifier, nonce] = [randomText(deps.random, 32), randomText(deps.random, 32)]
  const configuration = signIn.provider === undefined ? await deps.identityProviders(tenant) : undefined
  const parameters = {
    redirect_uri: redirectUriOf(deps, tenant, configuration?.serverMetadata()),
    state: await deps.attempts.begin('sign_in', tenant.tenant, { browser, verifier, nonce, issuer, purpose }),
    code_challenge: await openid.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  }
  if (configuration === undefined) return oauthSignInUrl(deps, tenant, { ...parameters, isOtherAccount })
  return urlOf(
    configuration,
    { issuer, par: signIn.par },
    {
      ...parameters,
      scope: (signIn.scopes ?? ['openid']).join(' '),
      nonce,
      ...(isOtherAccount ? { prompt: otherAccountPrompt(configuration.serverMetadata()) } : {}),
      ...(isOtherAccount ? {} : loginHint(signIn, purpose)),
    },
  )
}

const complete = async (
  deps: SignInDependencies,
  answer: URL,
  step: Step<'sign_in'>,
  tenants: readonly [Tenant, ...Tenant[]],
): Promise<SignedIn> => {
  const [tenant] = tenants
  if (signInIssuer(tenant, deps.snapshot().providers) !== step.issuer)
    throw refuse('connect_invalid', { problem: "the tenant's identity provider was changed meanwhile" })
  const configuration = tenant.sign_in?.provider === undefined ? await deps.identityProviders(tenant) : undefined
  if (answer.pathname !== new URL(redirectUriOf(deps, tenant, configuration?.serverMetadata())).pathname)
    throw refuse('connect_invalid', { problem: 'the answer did not come from where the question went' })
  if (configuration === undefined) return redeemOAuthSignIn(deps, answer, step, tenants)
  assertIssuer(answer, configuration.serverMetadata())
  const tokens = await openid
    .authorizationCodeGrant(configuration, answer, {
      pkceCodeVerifier: step.verifier,
      expectedState: answer.searchParams.get('state')!,
      expectedNonce: step.nonce,
      idTokenExpected: true,
    })
    .catch((error: unknown) => {
      throw refusalOfSignIn(step.issuer, error)
    })
  return signedInBy(tokens, tenants, step.issuer, deps.watchClaims)
}

/**
 * Sign-in of users through their tenant's identity provider: authorization code with PKCE, `state`, `nonce` and the
 * issuer check of RFC 9207. The answer is only ever redeemed at the issuer to which the request went (threat 7).
 */
export const createSignIn = (deps: SignInDependencies) => ({
  /**
   * @param isOtherAccount whether the user wants to sign in as another than the one that the identity provider knows.
   * @returns the URL there
   */
  begin: (tenant: Tenant, browser: string, purpose: Purpose, isOtherAccount = false): Promise<URL> =>
    begin(deps, tenant, browser, { purpose, isOtherAccount }),

  /**
   * Redeems the identity provider's answer.
   * @param tenants the one that the request was made for, and those that share its client: the verified sign-in says which it is
   * @throws DeputyError of the categories grant and subject
   */
  complete: (answer: URL, step: Step<'sign_in'>, tenants: readonly [Tenant, ...Tenant[]]): Promise<SignedIn> =>
    complete(deps, answer, step, tenants),
})

/** `select_account` where the identity provider supports it, else `login`, which all support (OpenID Connect Core section 3.1.2.1). */
const otherAccountPrompt = (server: openid.ServerMetadata): string => {
  const values: unknown = server['prompt_values_supported']
  return Array.isArray(values) && values.includes('select_account') ? 'select_account' : 'login'
}
