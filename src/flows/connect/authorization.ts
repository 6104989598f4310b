import * as openid from 'openid-client'
import type { Clock, Random } from '#clock'
import type { DownstreamOf, Provider } from '#config'
import { refuse } from '#errors'
import { isPushed, type ProviderClient, type ProviderClients, withNonce } from '#credentials/provider'
import { type Envelope, proofKeyText, randomText } from '#foundation/crypto'
import type { Grant } from '#foundation/store'
import type { Attempts, ConnectRequest, Step } from './attempt.ts'
import { type NewGrant, newGrantOf } from './new-grant.ts'
import { type Redeemed, redeemCode, refused } from './redeem-code.ts'

export interface AuthorizationDependencies {
  readonly clients: ProviderClients
  readonly attempts: Attempts
  readonly envelope: Envelope
  readonly clock: Clock
  readonly random: Random
  readonly redirectUri: (provider: Provider) => string
  /**
   * Ends a grant that is not kept, when no other grant is in use that would end with it. @returns false where no order
   * for it can be written
   */
  readonly endSealed: (grant: Grant) => Promise<boolean>
}

/** A consent that was given: the request goes to the service now. */
export interface Consented {
  readonly wish: ConnectRequest
  readonly granted: readonly string[]
  readonly downstream: DownstreamOf<'oauth_grant'>
  readonly browser: string
  readonly link: string
}

type Proof = Redeemed['proof']

/** The parameters of an authorization request, by the files of the provider and of the downstream. */
const parametersOf = async (
  { wish, granted, downstream }: Consented,
  { provider }: ProviderClient,
  sent: {
    readonly state: string
    readonly verifier: string
    readonly redirectUri: string
    readonly proof: Proof
  },
): Promise<Record<string, string>> => {
  const scopes =
    provider.offline_scope === undefined || !downstream.offline ? granted : [...granted, provider.offline_scope]
  return {
    ...provider.authorization_parameters,
    ...downstream.authorization_parameters,
    ...(wish.claims === undefined ? {} : { claims: wish.claims }),
    response_type: 'code',
    redirect_uri: sent.redirectUri,
    state: sent.state,
    ...(scopes.length === 0 ? {} : { [provider.scope_parameter]: scopes.join(provider.scope_separator) }),
    ...(downstream.resource === undefined ? {} : { resource: downstream.resource }),
    ...(provider.pkce === 'S256'
      ? { code_challenge: await openid.calculatePKCECodeChallenge(sent.verifier), code_challenge_method: 'S256' }
      : {}),
    // RFC 9449 section 10: a stolen code is of no use without the key.
    ...(sent.proof === undefined ? {} : { dpop_jkt: sent.proof.key.jkt }),
  }
}

/** The URL of an authorization request: pushed to the provider where it is so configured (RFC 9126). */
const urlOf = async (client: ProviderClient, parameters: Record<string, string>, proof: Proof): Promise<URL> => {
  const { provider, hasDocument, server } = client
  const configuration = client.configuration(undefined, proof)
  if (!isPushed({ provider: provider.provider, par: provider.par, server, hasDocument }))
    return openid.buildAuthorizationUrl(configuration, parameters)
  try {
    return await withNonce(proof, () => openid.buildAuthorizationUrlWithPAR(configuration, parameters))
  } catch (error) {
    throw refused(provider.provider, error)
  }
}

/** The part of the flow that is with the OAuth service: the request after consent, and its answer. */
export const createAuthorization = (deps: AuthorizationDependencies) => ({
  /** The host of the service, to which the browser is redirected; the consent page shows it and allows it as the form's target. */
  async target(wish: ConnectRequest, downstream: DownstreamOf<'oauth_grant'>): Promise<URL> {
    return new URL((await deps.clients(downstream, wish.tenant)).server.authorization_endpoint!)
  },

  /** Makes the authorization request. `state` is stored only now, after consent (REQUIREMENTS 12). */
  async begin(consented: Consented): Promise<URL> {
    const { wish, granted, downstream, browser, link } = consented
    const client = await deps.clients(downstream, wish.tenant)
    const verifier = randomText(deps.random, 32)
    const proof = await client.proof()
    const state = await deps.attempts.begin('authorization', wish.tenant, {
      browser,
      link,
      verifier,
      wish,
      granted: [...granted],
      consentedAt: deps.clock.now(),
      ...(proof === undefined ? {} : { proofKey: proofKeyText(proof.key).reveal() }),
    })
    const redirectUri = deps.redirectUri(client.provider)
    return urlOf(client, await parametersOf(consented, client, { state, verifier, redirectUri, proof }), proof)
  },

  /**
   * Redeems the service's answer for a grant. The issuer is checked before the code goes anywhere (threat 7).
   * @throws DeputyError `connect_invalid`, `connect_denied`, `provider_refused`, `scope_not_asked`
   */
  async complete(answer: URL, step: Step<'authorization'>, downstream: DownstreamOf<'oauth_grant'>): Promise<NewGrant> {
    const client = await deps.clients(downstream, step.wish.tenant)
    // A code that came to another address is of another provider, and must not be sent to this one.
    if (answer.pathname !== new URL(deps.redirectUri(client.provider)).pathname)
      throw refuse('connect_invalid', { problem: 'the answer did not come from where the question went' })
    const redeemed = await redeemCode(client, answer, step, downstream)
    return newGrantOf(deps, client, { step, downstream, ...redeemed })
  },
})
