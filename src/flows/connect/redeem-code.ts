import * as openid from 'openid-client'
import type { DownstreamOf } from '#config'
import { audiencesOf, plainly, problemOfAnswer, type ProviderClient, withNonce, wordsOf } from '#credentials/provider'
import { DeputyError, refuse } from '#errors'
import { openProofKey, Secret } from '#foundation/crypto'
import type { Step } from './attempt.ts'
import { assertIssuer } from './answer-issuer.ts'

/** The tokens that a service gave for a code, and the key that they are bound to. */
export interface Redeemed {
  readonly response: openid.TokenEndpointResponse
  readonly proof: Awaited<ReturnType<ProviderClient['proof']>>
}

/** A provider's error as Deputy's own. @param seen the body of the answer, where one came */
export const refused = (provider: string, thrown: unknown, seen?: string): DeputyError => {
  const error = plainly(thrown)
  return error instanceof DeputyError
    ? error
    : refuse('provider_refused', { provider, problem: wordsOf(error, seen) }, error)
}

/** The answer of an authorization endpoint that carries an error in place of a code. */
export const denied = (service: string, error: openid.AuthorizationResponseError): DeputyError =>
  refuse(
    'connect_denied',
    {
      problem:
        error.error === 'access_denied'
          ? `the user or an administrator denied it at ${service}`
          : `${service} answered ${error.error.slice(0, 60)}`,
    },
    error,
  )

/**
 * Redeems the code of an answer at the service to which the request went, and checks the tokens.
 * @throws DeputyError `connect_invalid` where the answer names another issuer, `connect_denied`, `provider_refused`
 */
export const redeemCode = async (
  client: ProviderClient,
  answer: URL,
  step: Step<'authorization'>,
  downstream: DownstreamOf<'oauth_grant'>,
): Promise<Redeemed> => {
  const { provider } = client
  assertIssuer(answer, client.server)
  const proof = await client.proof(
    step.proofKey === undefined ? undefined : await openProofKey(new Secret(step.proofKey)),
  )
  let seen = ''
  const configuration = (): openid.Configuration =>
    client.configuration((_status, text) => {
      seen = text
    }, proof)
  const checks = {
    expectedState: answer.searchParams.get('state')!,
    ...(provider.pkce === 'S256' ? { pkceCodeVerifier: step.verifier } : {}),
  }
  const parameters = downstream.resource === undefined ? undefined : { resource: downstream.resource }
  const response = await withNonce(proof, () =>
    openid.authorizationCodeGrant(configuration(), answer, checks, parameters),
  ).catch((error: unknown) => {
    throw error instanceof openid.AuthorizationResponseError
      ? denied(provider.name, error)
      : refused(provider.provider, error, seen)
  })
  const problem = problemOfAnswer(response, { provider, audiences: audiencesOf(downstream), proof })
  if (problem !== undefined) throw refuse('provider_refused', { provider: provider.provider, problem })
  return { response, proof }
}
