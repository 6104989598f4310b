import * as openid from 'openid-client'
import type { Clock, Random } from '../clock.ts'
import type { DownstreamOf } from '../config/downstream.ts'
import type { ProviderClients } from '../connector/provider/client.ts'
import { sealTokens } from '../connector/oauth-grant/grant.ts'
import { wordsOf } from '../connector/provider/call.ts'
import type { Envelope } from '../crypto/envelope.ts'
import { Secret } from '../crypto/secret.ts'
import { DeputyError, refuse } from '../errors.ts'
import type { Grant } from '../store/store.ts'
import type { Attempts, ConnectWish, Step } from './attempt.ts'
import { assertIssuer } from './sign-in.ts'

const UNSAID_LIFETIME = 3600

/** The part of the flow that is with the OAuth service: the request after consent, and its answer. */
export const createAuthorization = (deps: {
  readonly clients: ProviderClients
  readonly attempts: Attempts
  readonly envelope: Envelope
  readonly clock: Clock
  readonly random: Random
  readonly redirectUri: () => string
}) => {
  const random = (bytes: number): string => Buffer.from(deps.random.bytes(bytes)).toString('base64url')

  return {
    /** The host that the user goes on to; shown on the consent page and allowed there as the form's target. */
    async target(wish: ConnectWish, downstream: DownstreamOf<'oauth_grant'>): Promise<URL> {
      return new URL((await deps.clients(downstream, wish.tenant)).server.authorization_endpoint!)
    },

    /** Makes the authorization request. `state` is stored only now, after consent (REQUIREMENTS 12). */
    async begin(wish: ConnectWish, granted: readonly string[], downstream: DownstreamOf<'oauth_grant'>, browser: string, link: string): Promise<URL> {
      const client = await deps.clients(downstream, wish.tenant)
      const { provider } = client
      const verifier = random(32)
      const state = await deps.attempts.begin('authorization', wish.tenant, { browser, link, verifier, wish, granted: [...granted], consentedAt: deps.clock.now() })
      const scopes = provider.offline_scope === undefined ? granted : [...granted, provider.offline_scope]
      const parameters: Record<string, string> = {
        ...provider.authorization_parameters, response_type: 'code', redirect_uri: deps.redirectUri(), scope: scopes.join(provider.scope_separator), state,
        ...(downstream.resource === undefined ? {} : { resource: downstream.resource }),
        ...(provider.pkce === 'S256' ? { code_challenge: await openid.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' } : {}),
      }
      const configuration = client.configuration()
      if (client.server.pushed_authorization_request_endpoint === undefined) return openid.buildAuthorizationUrl(configuration, parameters)
      try { return await openid.buildAuthorizationUrlWithPAR(configuration, parameters) } catch (error) { throw refused(provider.provider, error) }
    },

    /** Redeems the service's answer for a grant. The issuer is checked before the code goes anywhere (threat 7). */
    async complete(answer: URL, step: Step<'authorization'>, downstream: DownstreamOf<'oauth_grant'>): Promise<{ grant: Omit<Grant, 'version'>; end(): Promise<void> }> {
      const { wish, granted, verifier } = step
      const client = await deps.clients(downstream, wish.tenant)
      assertIssuer(answer, client.server)
      let response: openid.TokenEndpointResponse
      try {
        response = await openid.authorizationCodeGrant(client.configuration(), answer, {
          expectedState: answer.searchParams.get('state')!, ...(client.provider.pkce === 'S256' ? { pkceCodeVerifier: verifier } : {}),
        }, downstream.resource === undefined ? undefined : { resource: downstream.resource })
      } catch (error) {
        if (error instanceof openid.AuthorizationResponseError) throw refuse('connect_denied', { problem: error.error === 'access_denied' ? `${client.provider.name} was told not to allow it` : `${client.provider.name} answered ${error.error.slice(0, 60)}` }, error)
        throw refused(client.provider.provider, error)
      }
      const now = deps.clock.now()
      const id = random(12)
      const scopes = response.scope === undefined ? granted : response.scope.split(client.provider.scope_separator).filter((scope) => scope !== '' && scope !== client.provider.offline_scope)
      const sealed = await sealTokens(deps.envelope, { tenant: wish.tenant, id }, {
        refreshToken: response.refresh_token === undefined ? undefined : new Secret(response.refresh_token), accessToken: new Secret(response.access_token),
        accessObtainedAt: now, accessExpiresAt: now + Math.min((response.expires_in ?? UNSAID_LIFETIME) * 1000, downstream.lifetime ?? Infinity),
        clientId: client.clientId, tokenEndpoint: client.server.token_endpoint!, resource: downstream.resource,
      })
      return {
        grant: {
          id, tenant: wish.tenant, user: wish.user, server: wish.server, downstream: wish.downstream, provider: client.provider.provider,
          clientGeneration: client.generation, scopes: scopes.toSorted(), status: 'active', problem: null, sealed, createdAt: now, updatedAt: now,
        },
        async end() {
          if (client.provider.revocation === 'none') return
          await openid.tokenRevocation(client.configuration(), response.refresh_token ?? response.access_token)
        },
      }
    },
  }
}

const refused = (provider: string, error: unknown): DeputyError => error instanceof DeputyError ? error : refuse('provider_refused', { provider, problem: wordsOf(error) }, error)
