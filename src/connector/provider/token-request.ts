import { decodeJwt, decodeProtectedHeader } from 'jose'
import * as openid from 'openid-client'
import type { Clock } from '../../clock.ts'
import type { ProvidedDownstream } from '../../config/downstream.ts'
import { Secret } from '../../crypto/secret.ts'
import { DeputyError, refuse } from '../../errors.ts'
import { ACCESS_TOKEN_TYPE, type Credential, type CredentialRequest, type TokenTypeUri } from '../connector.ts'
import { failureOf, retryAfterOf, UNSAID_WAIT, wordsOf, type CallProvider } from './call.ts'
import type { ProviderClient, ProviderClients } from './client.ts'

/** Downstreams whose token a single request brings: there is no grant and no refresh token. */
export type RequestedDownstream = Exclude<ProvidedDownstream, { credential: 'oauth_grant' }>

/** A request to a token endpoint, of any grant. */
export interface TokenRequest {
  readonly grantType: string
  /** Made anew for each attempt: an assertion is good for one. */
  readonly parameters: (client: ProviderClient) => Readonly<Record<string, string>> | Promise<Readonly<Record<string, string>>>
  /** The scopes stand in what the parameters hold already. */
  readonly scopeIsSigned?: boolean
  /** For telemetry. */
  readonly operation: string
  /** The user whom the token has to be for, where a JWT says for whom it is and its issuer is the one that named the user. */
  readonly subject?: { readonly issuer: string; readonly user: string }
}

/** A token of a service that does not say how long it lives is used for this long (ms); RFC 6749 section 5.1 leaves it to documentation. */
export const UNSAID_LIFETIME = 300_000

/** What a failure means to who asked. The provider's own words are in the record. */
export const refusalOf = (provider: string, error: unknown, now: number): DeputyError => {
  if (error instanceof DeputyError) return error
  const problem = wordsOf(error)
  const failure = failureOf(error)
  return failure === 'lost' || failure === 'not_sent' ? refuse('provider_unavailable', { provider, problem, seconds: Math.ceil((retryAfterOf(error, now) ?? UNSAID_WAIT) / 1000) }, error) : refuse('provider_refused', { provider, problem }, error)
}

/**
 * Where the token is an access token by RFC 9068 it says for whom it is: one that is for somebody else, or for another
 * service, is not used. Others are nobody's to read but the service's.
 */
const assertMeant = (token: string, { downstream, subject }: { downstream: RequestedDownstream; subject: TokenRequest['subject'] }, provider: string): void => {
  let claims
  try {
    if (!/^(application\/)?at\+jwt$/i.test(String(decodeProtectedHeader(token).typ))) return
    claims = decodeJwt(token)
  } catch { return }
  const audiences = [claims.aud ?? []].flat()
  const wrong = (problem: string): DeputyError => refuse('provider_refused', { provider, problem })
  if (subject !== undefined && claims.iss === subject.issuer && claims.sub !== subject.user) throw wrong('it issued a token for somebody else')
  if (downstream.resource !== undefined && audiences.length > 0 && !audiences.includes(downstream.resource) && !audiences.includes(downstream.audience ?? downstream.resource)) throw wrong('it issued a token for another service')
}

/**
 * Asks a provider for a token and holds the answer to what was asked: a bearer token that has not expired, of no more scopes, for
 * nobody else. What is missing in the answer is taken for less rather than more.
 */
export const createTokenRequests = (deps: { readonly clients: ProviderClients; readonly call: CallProvider; readonly clock: Clock }) =>
  async (request: CredentialRequest, { grantType, parameters, operation, subject, scopeIsSigned = false }: TokenRequest): Promise<Credential> => {
    const downstream = request.downstream as RequestedDownstream
    const { tenant } = request.principal
    const client = await deps.clients(downstream, tenant)
    const { provider } = client.provider
    const { scope_prefix: prefix } = downstream
    const scope = request.scopes.map((each) => prefix + each).join(client.provider.scope_separator)
    const before = deps.clock.now()
    let answer: openid.TokenEndpointResponse
    try {
      answer = await deps.call({ provider, tenant, operation }, async () => openid.genericGrantRequest(client.configuration(), grantType, {
        ...(scope === '' || scopeIsSigned ? {} : { scope }),
        ...(downstream.resource === undefined ? {} : { resource: downstream.resource }), ...(downstream.audience === undefined ? {} : { audience: downstream.audience }),
        ...downstream.parameters, ...await parameters(client),
      }))
    } catch (error) { throw refusalOf(provider, error, deps.clock.now()) }
    const refused = (problem: string): DeputyError => refuse('provider_refused', { provider, problem })
    if (answer.token_type.toLowerCase() !== 'bearer') throw refused(`it issued a token of type ${answer.token_type.slice(0, 30)}`)
    const life = answer.expires_in === undefined ? UNSAID_LIFETIME : answer.expires_in * 1000
    if (life <= 0) throw refused('it issued a token that has expired')
    assertMeant(answer.access_token, { downstream, subject }, provider)
    const named = answer.scope?.split(client.provider.scope_separator).filter((each) => each !== '').map((each) => each.startsWith(prefix) ? each.slice(prefix.length) : each)
    const scopes = named ?? request.scopes
    const wider = scopes.some((each) => !request.scopes.includes(each))
    if (wider && downstream.wider !== 'mark') throw refuse('scope_not_narrowable', { provider, granted: scopes.join(' '), downstream: downstream.downstream })
    return {
      token: new Secret(answer.access_token), issuedTokenType: ACCESS_TOKEN_TYPE satisfies TokenTypeUri, tokenType: 'Bearer', scopes: scopes.toSorted(), wider,
      expiresAt: Math.min(before + Math.min(life, downstream.lifetime ?? Infinity), request.notAfter), story: `${client.provider.name} answered the ${operation} with a token.`,
    }
  }
export type RequestToken = ReturnType<typeof createTokenRequests>
