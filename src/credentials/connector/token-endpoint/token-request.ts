import { decodeJwt, type JWTPayload } from 'jose'
import * as openid from 'openid-client'
import type { Clock } from '#clock'
import type { ProvidedDownstream } from '#config'
import {
  accessTokenClaims,
  audiencesOf,
  type CallProvider,
  challengeIn,
  failureOf,
  fieldsOf,
  isBound,
  plainly,
  problemOfAnswer,
  type ProviderClient,
  type ProviderClients,
  refusedSubjectToken,
  retryAfterOf,
  scopesOf,
  DEFAULT_WAIT_MS,
  withNonce,
  wordsOf,
} from '#credentials/provider'
import { DeputyError, refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import { claimAt } from '#foundation/text'
import { ACCESS_TOKEN_TYPE, type TokenTypeUri } from '#oauth'
import type { Credential, CredentialRequest } from '../connector.ts'

/** Downstreams whose token a single request brings: there is no grant and no refresh token. */
export type RequestedDownstream = Exclude<ProvidedDownstream, { credential: 'oauth_grant' }>

/** A request to a token endpoint, of any grant. */
export interface TokenRequest {
  readonly grantType: string | ((client: ProviderClient) => string)
  /** Made anew for each attempt: an assertion is good for one. */
  readonly parameters: (
    client: ProviderClient,
  ) => Readonly<Record<string, string>> | Promise<Readonly<Record<string, string>>>
  /** The scopes stand in what the parameters hold already. */
  readonly scopeIsSigned?: boolean
  /** For telemetry. */
  readonly operation: string
  /** The user whom the token has to be for, where a JWT says for whom it is and its issuer is the one that named the user. */
  readonly subject?: { readonly issuer: string; readonly user: string }
  /** The user's own token goes along: when the server refuses that, the user has to sign in again. */
  readonly ofUser?: boolean
  /** A token of Deputy's own goes along as that of the actor, so that the answer has to name one. */
  readonly actor?: boolean
}

/**
 * Whether a token is for another user than the request. The user's name is compared as the tenant's file reads it out
 * of tokens of this issuer; the
 * `sub` of the user's own token counts too, because the claim that names users may be missing in a token for a service.
 */
const isForAnother = (
  { tenant, subjectToken }: CredentialRequest,
  claims: JWTPayload,
  subject: TokenRequest['subject'],
): boolean => {
  if (subject === undefined || claims.iss !== subject.issuer) return false
  const mapping = tenant.issuers.find(({ issuer }) => issuer === subject.issuer)?.claims.user ?? 'sub'
  const named = claimAt(claims, mapping)
  if (typeof named === 'string' || typeof named === 'number') return String(named) !== subject.user
  if (named !== undefined) return true
  const own = subjectToken === undefined ? undefined : subOf(subjectToken.token)
  return claims.sub !== undefined && claims.sub !== (own ?? subject.user)
}

const subOf = (token: Secret): string | undefined => {
  try {
    return decodeJwt(token.reveal()).sub
  } catch {
    return undefined
  }
}

/** A token of a service that does not say how long it lives is used for this long (ms); RFC 6749 section 5.1 leaves it to documentation. */
export const DEFAULT_LIFETIME_MS = 300_000

/** The refusal that the caller gets after a failed request; it has the provider's own words. @param asked.seen the text of the answer */
export const refusalOf = (
  thrown: unknown,
  asked: { readonly provider: string; readonly downstream: string; readonly now: number; readonly seen?: string },
): DeputyError => {
  const { provider, downstream, now, seen } = asked
  const error = plainly(thrown)
  if (error instanceof DeputyError) return error
  const problem = wordsOf(error, seen)
  const failure = failureOf(error)
  if (failure === 'challenged') return refuse('step_up_required', { downstream, problem, ...challengeIn(error) }, error)
  return failure === 'lost' || failure === 'not_sent'
    ? refuse(
        'provider_unavailable',
        { provider, problem, seconds: Math.ceil((retryAfterOf(error, now) ?? DEFAULT_WAIT_MS) / 1000) },
        error,
      )
    : refuse('provider_refused', { provider, problem }, error)
}

/**
 * Asks a provider for a token and checks the answer against the request: a bearer token, or one that is bound to a key made for
 * it, that has not expired, of no more scopes, for no other user. A member that the answer lacks counts as less rather than more.
 */
export const createTokenRequests =
  (deps: { readonly clients: ProviderClients; readonly call: CallProvider; readonly clock: Clock }) =>
  async (
    request: CredentialRequest,
    { grantType, parameters, operation, subject, ofUser = false, actor = false, scopeIsSigned = false }: TokenRequest,
  ): Promise<Credential> => {
    const downstream = request.downstream as RequestedDownstream
    const { tenant } = request.principal
    const client = await deps.clients(downstream, tenant)
    const { provider } = client.provider
    const { scope_prefix: prefix } = downstream
    const scope = request.scopes.map((each) => prefix + each).join(client.provider.scope_separator)
    const before = deps.clock.now()
    const proof = await client.proof()
    let answer: openid.TokenEndpointResponse
    let seen = ''
    try {
      answer = await deps.call({ provider, tenant, operation }, () =>
        withNonce(proof, async () =>
          openid.genericGrantRequest(
            client.configuration((_status, text) => {
              seen = text
            }, proof),
            typeof grantType === 'string' ? grantType : grantType(client),
            {
              ...(scope === '' || scopeIsSigned ? {} : { scope }),
              ...(downstream.resource === undefined ? {} : { resource: downstream.resource }),
              ...(downstream.audience === undefined ? {} : { audience: downstream.audience }),
              ...downstream.parameters,
              ...(await parameters(client)),
            },
          ),
        ),
      )
    } catch (error) {
      const about = ofUser ? refusedSubjectToken(error) : undefined
      if (about === 'token') throw refuse('subject_token_refused', { provider, problem: wordsOf(error, seen) }, error)
      if (about === 'audience')
        throw refuse(
          'provider_refused',
          { provider, problem: `${wordsOf(error, seen)}; it wants ${client.clientId} in aud of the user's token` },
          error,
        )
      throw refusalOf(error, { provider, downstream: downstream.downstream, now: deps.clock.now(), seen })
    }
    const refused = (problem: string): DeputyError => refuse('provider_refused', { provider, problem })
    const { issuer } = client.provider
    const problem = problemOfAnswer(answer, {
      provider: client.provider,
      audiences: audiencesOf(downstream),
      proof,
      actor,
    })
    if (problem !== undefined) throw refused(problem)
    const claims = accessTokenClaims(answer.access_token, issuer)
    if (claims !== undefined && isForAnother(request, claims, subject))
      throw refused('it issued a token for another user')
    const life = answer.expires_in === undefined ? DEFAULT_LIFETIME_MS : answer.expires_in * 1000
    const named = scopesOf(
      client.provider,
      answer,
      request.scopes.map((each) => prefix + each),
      downstream.scopes,
    )?.map((each) => (each.startsWith(prefix) ? each.slice(prefix.length) : each))
    const scopes = named ?? request.scopes
    const overScoped = scopes.some((each) => !request.scopes.includes(each))
    if (overScoped && downstream.over_scoped !== 'mark')
      throw refuse('scope_not_narrowable', { provider, granted: scopes.join(' '), downstream: downstream.downstream })
    return {
      token: new Secret(answer.access_token),
      issuedTokenType: ACCESS_TOKEN_TYPE satisfies TokenTypeUri,
      ...(proof !== undefined && isBound(answer)
        ? { tokenType: 'DPoP', proofKey: proof.key }
        : { tokenType: 'Bearer' }),
      scopes: scopes.toSorted(),
      overScoped,
      expiresAt: Math.min(before + Math.min(life, downstream.lifetime ?? Infinity), request.notAfter),
      auditNote: `${client.provider.name} answered the ${operation} with a token.`,
      fields: fieldsOf(client.provider, answer),
    }
  }
export type RequestToken = ReturnType<typeof createTokenRequests>
