import * as openid from 'openid-client'
import type { Clock, Random } from '#clock'
import type { DownstreamOf } from '#config'
import { sealTokens } from '#credentials/connector'
import {
  audiencesOf,
  fieldsOf,
  isBound,
  isPushed,
  plainly,
  problemOfAnswer,
  type ProviderClients,
  refreshUntilOf,
  revokeTokens,
  scopesOf,
  tokenLifeOf,
  withNonce,
  wordsOf,
} from '#credentials/provider'
import { DeputyError, refuse } from '#errors'
import { type Envelope, openProofKey, proofKeyText, randomText, Secret } from '#foundation/crypto'
import type { Grant } from '#foundation/store'
import type { Attempts, ConnectRequest, Step } from './attempt.ts'
import { assertIssuer } from './sign-in.ts'

/** The part of the flow that is with the OAuth service: the request after consent, and its answer. */
export const createAuthorization = (deps: {
  readonly clients: ProviderClients
  readonly attempts: Attempts
  readonly envelope: Envelope
  readonly clock: Clock
  readonly random: Random
  readonly redirectUri: () => string
  /**
   * Ends a grant that is not kept, when no other grant is in use that would end with it. @returns false where no order
   * for it can be written
   */
  readonly endSealed: (grant: Grant) => Promise<boolean>
}) => {
  const random = (bytes: number): string => randomText(deps.random, bytes)

  return {
    /** The host that the user goes on to; shown on the consent page and allowed there as the form's target. */
    async target(wish: ConnectRequest, downstream: DownstreamOf<'oauth_grant'>): Promise<URL> {
      return new URL((await deps.clients(downstream, wish.tenant)).server.authorization_endpoint!)
    },

    /** Makes the authorization request. `state` is stored only now, after consent (REQUIREMENTS 12). */
    async begin(
      wish: ConnectRequest,
      granted: readonly string[],
      downstream: DownstreamOf<'oauth_grant'>,
      browser: string,
      link: string,
    ): Promise<URL> {
      const client = await deps.clients(downstream, wish.tenant)
      const { provider } = client
      const verifier = random(32)
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
      const scopes =
        provider.offline_scope === undefined || !downstream.offline ? granted : [...granted, provider.offline_scope]
      const parameters: Record<string, string> = {
        ...provider.authorization_parameters,
        ...downstream.authorization_parameters,
        ...(wish.claims === undefined ? {} : { claims: wish.claims }),
        response_type: 'code',
        redirect_uri: deps.redirectUri(),
        state,
        ...(scopes.length === 0 ? {} : { [provider.scope_parameter]: scopes.join(provider.scope_separator) }),
        ...(downstream.resource === undefined ? {} : { resource: downstream.resource }),
        ...(provider.pkce === 'S256'
          ? { code_challenge: await openid.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' }
          : {}),
        // RFC 9449 section 10: a code that somebody has stolen is of no use without the key.
        ...(proof === undefined ? {} : { dpop_jkt: proof.key.jkt }),
      }
      const configuration = client.configuration(undefined, proof)
      const { hasDocument, server } = client
      if (!isPushed({ provider: provider.provider, par: provider.par, server, hasDocument }))
        return openid.buildAuthorizationUrl(configuration, parameters)
      try {
        return await withNonce(proof, () => openid.buildAuthorizationUrlWithPAR(configuration, parameters))
      } catch (error) {
        throw refused(provider.provider, error)
      }
    },

    /** Redeems the service's answer for a grant. The issuer is checked before the code goes anywhere (threat 7). */
    async complete(
      answer: URL,
      step: Step<'authorization'>,
      downstream: DownstreamOf<'oauth_grant'>,
    ): Promise<{ grant: Omit<Grant, 'version'>; end(): Promise<void> }> {
      const { wish, granted, verifier } = step
      const client = await deps.clients(downstream, wish.tenant)
      assertIssuer(answer, client.server)
      const proof = await client.proof(
        step.proofKey === undefined ? undefined : await openProofKey(new Secret(step.proofKey)),
      )
      let response: openid.TokenEndpointResponse
      let seen = ''
      try {
        response = await withNonce(proof, () =>
          openid.authorizationCodeGrant(
            client.configuration((_status, text) => {
              seen = text
            }, proof),
            answer,
            {
              expectedState: answer.searchParams.get('state')!,
              ...(client.provider.pkce === 'S256' ? { pkceCodeVerifier: verifier } : {}),
            },
            downstream.resource === undefined ? undefined : { resource: downstream.resource },
          ),
        )
      } catch (error) {
        if (error instanceof openid.AuthorizationResponseError)
          throw refuse(
            'connect_denied',
            {
              problem:
                error.error === 'access_denied'
                  ? `${client.provider.name} was told not to allow it`
                  : `${client.provider.name} answered ${error.error.slice(0, 60)}`,
            },
            error,
          )
        throw refused(client.provider.provider, error, seen)
      }
      const problem = problemOfAnswer(response, {
        provider: client.provider,
        audiences: audiencesOf(downstream),
        proof,
      })
      if (problem !== undefined) throw refuse('provider_refused', { provider: client.provider.provider, problem })
      const now = deps.clock.now()
      const id = random(12)
      const scopes = scopesOf(client.provider, response, granted, downstream.scopes) ?? granted
      const surplus = scopes.filter((scope) => !granted.includes(scope))
      const tokens = {
        refreshToken: secretOf(response.refresh_token),
        accessToken: new Secret(response.access_token),
        proofKey: proof?.key,
      }
      const sealed = await sealTokens(
        deps.envelope,
        { tenant: wish.tenant, id, user: wish.user, server: wish.server, downstream: wish.downstream },
        {
          ...tokens,
          accessObtainedAt: now,
          accessExpiresAt:
            now +
            Math.min(
              await tokenLifeOf(client, response, now),
              (tokens.refreshToken === undefined ? undefined : downstream.lifetime) ?? Infinity,
            ),
          refreshUntil: refreshUntilOf(response, now),
          clientId: client.clientId,
          tokenEndpoint: client.server.token_endpoint!,
          resource: downstream.resource,
          redirectUri: client.provider.refresh.redirect_uri ? deps.redirectUri() : undefined,
          fields: fieldsOf(client.provider, response),
          ...(surplus.length === 0 ? {} : { accessScopes: scopes }),
          bound: isBound(response),
        },
      )
      const grant: Omit<Grant, 'version'> = {
        id,
        tenant: wish.tenant,
        user: wish.user,
        server: wish.server,
        downstream: wish.downstream,
        provider: client.provider.provider,
        clientGeneration: client.generation,
        // The user gave what was ticked; a surplus is the token's, which is narrowed or marked.
        scopes: granted.filter((scope) => scopes.includes(scope)).toSorted(),
        status: 'active',
        problem: null,
        sealed,
        createdAt: now,
        updatedAt: now,
      }
      /** Other grants of the user may end with this one, and are in use. */
      const end = async (): Promise<void> => {
        if (!(await deps.endSealed({ ...grant, version: 0 }))) await revokeTokens(client, tokens)
      }
      // Scopes that were not asked for are refused here, where the user and an admin can act on them, and not by every
      // request later.
      if (surplus.length > 0 && downstream.wider !== 'mark' && !client.provider.refresh.narrows) {
        await end().catch(() => undefined)
        throw refuse('scope_not_asked', {
          provider: client.provider.provider,
          surplus: surplus.join(' '),
          downstream: wish.downstream,
        })
      }
      return { grant, end }
    },
  }
}

const secretOf = (text: string | undefined): Secret | undefined => (text === undefined ? undefined : new Secret(text))

const refused = (provider: string, thrown: unknown, seen?: string): DeputyError => {
  const error = plainly(thrown)
  return error instanceof DeputyError
    ? error
    : refuse('provider_refused', { provider, problem: wordsOf(error, seen) }, error)
}
