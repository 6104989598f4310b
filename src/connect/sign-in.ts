import * as openid from 'openid-client'
import { LRUCache } from 'lru-cache'
import type { Random } from '../clock.ts'
import type { CurrentSnapshot } from '../config/snapshot.ts'
import type { Tenant } from '../config/tenant.ts'
import type { Egress } from '../egress/egress.ts'
import { DeputyError, refuse } from '../errors.ts'
import type { ResolveSecret } from '../secret/reference.ts'
import { groupsOf, userOf } from '../subject/claims.ts'
import { tenantOf } from '../subject/trust.ts'
import type { Attempts, Purpose, Step } from './attempt.ts'

/** Who has signed in at the tenant's identity provider. */
export interface SignedIn {
  readonly user: string
  readonly issuer: string
  readonly groups: readonly string[]
  readonly claims: Readonly<Record<string, unknown>>
}

const DISCOVERED = 3_600_000

/**
 * Sign-in of users through their tenant's identity provider: authorization code with PKCE, `state`, `nonce` and the
 * issuer check of RFC 9207. The answer is only ever redeemed at the issuer to which the question went (threat 7).
 */
export const createSignIn = (deps: {
  readonly snapshot: CurrentSnapshot
  readonly egress: Egress
  readonly resolveSecret: ResolveSecret
  readonly attempts: Attempts
  readonly random: Random
  readonly redirectUri: () => string
}) => {
  const metadata = new LRUCache<string, openid.ServerMetadata>({ max: 500, ttl: DISCOVERED })
  const random = (): string => Buffer.from(deps.random.bytes(32)).toString('base64url')

  const configurationOf = async ({ tenant, sign_in: signIn }: Tenant): Promise<openid.Configuration> => {
    if (signIn === undefined) throw refuse('connect_invalid', { problem: `the tenant ${tenant} has no sign-in; an admin has to set sign_in in its file` })
    const insecure = deps.snapshot().settings.network.allow_loopback
    const secret = signIn.client_secret === undefined ? undefined : await deps.resolveSecret(signIn.client_secret, tenant)
    const authentication = secret === undefined ? openid.None() : openid.ClientSecretBasic(secret.reveal())
    const fetch = deps.egress as unknown as openid.CustomFetch
    let server = metadata.get(signIn.issuer)
    if (server === undefined) {
      const discovered = await openid.discovery(new URL(signIn.issuer), signIn.client_id, undefined, authentication, { execute: insecure ? [openid.allowInsecureRequests] : [], [openid.customFetch]: fetch })
        .catch((error: unknown) => { throw refuse('issuer_unreachable', { issuer: signIn.issuer, seconds: 5 }, error) })
      server = discovered.serverMetadata()
      metadata.set(signIn.issuer, server)
    }
    if (server.code_challenge_methods_supported?.includes('S256') !== true) throw refuse('provider_refused', { provider: signIn.issuer, problem: 'it does not offer PKCE with S256' })
    const configuration = new openid.Configuration(server, signIn.client_id, undefined, authentication)
    if (insecure) openid.allowInsecureRequests(configuration)
    configuration[openid.customFetch] = fetch
    return configuration
  }

  return {
    /** @returns the URL at the identity provider */
    async begin(tenant: Tenant, browser: string, purpose: Purpose): Promise<URL> {
      const configuration = await configurationOf(tenant)
      const { sign_in: signIn } = tenant
      const [verifier, nonce] = [random(), random()]
      const state = await deps.attempts.begin('sign_in', tenant.tenant, { browser, verifier, nonce, issuer: signIn!.issuer, purpose })
      const parameters = {
        redirect_uri: deps.redirectUri(), scope: signIn!.scopes.join(' '), state, nonce,
        code_challenge: await openid.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
      }
      const url = configuration.serverMetadata().pushed_authorization_request_endpoint === undefined
        ? openid.buildAuthorizationUrl(configuration, parameters)
        : await openid.buildAuthorizationUrlWithPAR(configuration, parameters).catch((error: unknown) => { throw refuse('issuer_unreachable', { issuer: signIn!.issuer, seconds: 5 }, error) })
      if (url.protocol !== 'https:' && url.protocol !== 'http:') throw refuse('provider_refused', { provider: signIn!.issuer, problem: 'its authorization endpoint is no http or https URL' })
      return url
    },

    /** Redeems the identity provider's answer. @throws DeputyError of the categories grant and subject */
    async complete(answer: URL, step: Step<'sign_in'>, tenant: Tenant): Promise<SignedIn> {
      if (tenant.sign_in?.issuer !== step.issuer) throw refuse('connect_invalid', { problem: 'the tenant\'s identity provider was changed meanwhile' })
      const configuration = await configurationOf(tenant)
      assertIssuer(answer, configuration.serverMetadata())
      let tokens
      try {
        tokens = await openid.authorizationCodeGrant(configuration, answer, {
          pkceCodeVerifier: step.verifier, expectedState: answer.searchParams.get('state')!, expectedNonce: step.nonce, idTokenExpected: true,
        })
      } catch (error) {
        if (error instanceof DeputyError) throw error
        if (error instanceof openid.AuthorizationResponseError) throw refuse('connect_denied', { problem: 'the sign-in was not completed' }, error)
        throw refuse('connect_invalid', { problem: 'the identity provider\'s answer could not be verified' }, error)
      }
      const claims = tokens.claims() as Readonly<Record<string, unknown>> | undefined
      const trusted = tenant.issuers.filter(({ issuer }) => issuer === step.issuer).map((issuer) => ({ tenant, issuer }))
      if (claims === undefined) throw refuse('connect_invalid', { problem: 'the identity provider did not say who signed in' })
      const { issuer } = tenantOf(claims, trusted)
      return { user: userOf(claims, issuer), issuer: issuer.issuer, groups: groupsOf(claims, issuer), claims }
    },
  }
}

/** RFC 9207 section 2.4: compared as raw text; an issuer that announces `iss` and leaves it out is refused. */
export const assertIssuer = (answer: URL, server: openid.ServerMetadata): void => {
  const issuers = answer.searchParams.getAll('iss')
  const [issuer] = issuers
  if (issuers.length > 1 || (issuer !== undefined && issuer !== server.issuer)) throw refuse('connect_invalid', { problem: 'the answer did not come from where the question went' })
  if (issuer === undefined && server.authorization_response_iss_parameter_supported === true) throw refuse('connect_invalid', { problem: 'the answer does not say where it comes from' })
}
