import { decodeJwt, decodeProtectedHeader } from 'jose'
import * as openid from 'openid-client'
import { z } from 'zod'
import type { Clock } from '#clock'
import type { DownstreamOf } from '#config'
import {
  type CallProvider,
  failureOf,
  type IdentityProviders,
  type ProviderClient,
  type ProviderClients,
  wordsOf,
} from '#credentials/provider'
import { refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import { ID_JAG_TOKEN_TYPE, ID_TOKEN_TYPE } from '#oauth'
import { askUser } from '../ask-user.ts'
import type { Connector, CredentialRequest } from '../connector.ts'
import { refusalOf, type RequestToken } from './token-request.ts'

/** draft-ietf-oauth-identity-assertion-authz-grant section 3: what an ID-JAG has to say. */
const headerSchema = z.object({ typ: z.string().regex(/^(application\/)?oauth-id-jag\+jwt$/i) })
const claimsSchema = z.object({
  iss: z.string(),
  sub: z.string().min(1),
  aud: z.string().or(z.tuple([z.string()]).transform(([only]) => only)),
  client_id: z.string(),
  jti: z.string().min(1),
  exp: z.number(),
  iat: z.number(),
  resource: z.string().or(z.array(z.string())).optional(),
  scope: z.string().optional(),
})

/** Undefined: it is no ID-JAG. */
const read = (token: string): z.output<typeof claimsSchema> | undefined => {
  try {
    headerSchema.parse(decodeProtectedHeader(token))
    return claimsSchema.parse(decodeJwt(token))
  } catch {
    return undefined
  }
}

/** Why an assertion of the identity provider is not redeemed; undefined where it is valid. */
const problemOf = (
  token: string,
  expected: {
    issuer: string
    audience: string
    clientId: string
    resource: string
    scopes: readonly string[]
    now: number
  },
): string | undefined => {
  const claims = read(token)
  if (claims === undefined) return 'it issued no identity assertion'
  if (claims.iss !== expected.issuer) return 'it issued an assertion of another issuer'
  if (claims.aud !== expected.audience) return 'it issued an assertion for another authorization server'
  if (claims.client_id !== expected.clientId) return 'it issued an assertion for another client'
  if ([claims.resource].flat().some((resource) => resource !== expected.resource))
    return 'it issued an assertion for another service'
  if (claims.exp * 1000 <= expected.now) return 'it issued an assertion that has expired'
  return claims.scope?.split(' ').every((scope) => expected.scopes.includes(scope)) === false
    ? 'it issued an assertion with more scopes than were asked'
    : undefined
}

interface IdJagDependencies {
  /** Of the user's last sign-in, while it is valid. */
  readonly identityToken: (owner: {
    readonly tenant: string
    readonly user: string
    readonly issuer: string
  }) => Promise<Secret | undefined>
  readonly identityProviders: IdentityProviders
  readonly clients: ProviderClients
  readonly requestToken: RequestToken
  readonly call: CallProvider
  readonly connectUrl: (request: CredentialRequest, scopes: readonly string[]) => Promise<string>
  readonly clock: Clock
}

/**
 * `id_jag`: enterprise-managed authorization (draft-ietf-oauth-identity-assertion-authz-grant). The company's identity provider
 * exchanges the user's ID token for an assertion that names one authorization server, client and service (section 4.3), and that
 * server redeems it (section 4.4). Deputy's clients at the two differ; the ID token is that of the user's last sign-in.
 */
export const createIdJagConnector = (deps: IdJagDependencies): Connector => ({
  kind: 'id_jag',
  async obtain(request) {
    const { principal, server } = request
    const downstream = request.downstream as DownstreamOf<'id_jag'>
    if (principal.kind !== 'user')
      throw refuse('target_unknown', { target: downstream.downstream, server: server.server })
    const client = await deps.clients(downstream, principal.tenant)
    const assertion = await assertionFor(deps, request, principal.user, client)
    return deps.requestToken(request, {
      grantType: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
      operation: 'identity assertion redemption',
      parameters: () => ({ assertion }),
    })
  },
})

/** The issuer and the audience of an assertion. @throws DeputyError `provider_refused` where the files do not allow one */
const partiesOf = ({ tenant }: CredentialRequest, { provider }: ProviderClient) => {
  const { sign_in: signIn } = tenant
  if (signIn?.issuer === undefined || signIn.client_secret === undefined)
    throw refuse('provider_refused', {
      provider: signIn?.issuer ?? tenant.tenant,
      problem: 'identity assertions need a sign-in whose client has a secret',
    })
  if (provider.issuer === undefined || provider.client_authentication === 'none')
    throw refuse('provider_refused', {
      provider: provider.provider,
      problem: 'identity assertions need its issuer and client authentication in its file',
    })
  return { issuer: signIn.issuer, audience: provider.issuer }
}

/** @throws DeputyError `interaction_required`, `reconnect_required`, and of the category provider */
const assertionFor = async (
  deps: IdJagDependencies,
  request: CredentialRequest,
  user: string,
  client: ProviderClient,
): Promise<string> => {
  const { tenant, scopes } = request
  const { resource, scope_prefix: prefix } = request.downstream as DownstreamOf<'id_jag'>
  const { issuer, audience } = partiesOf(request, client)
  const idToken = await deps.identityToken({ tenant: tenant.tenant, user, issuer })
  if (idToken === undefined) return askUser(deps.connectUrl, { request, scopes }, 'interaction_required')
  const wanted = scopes.map((scope) => prefix + scope)
  const answer = await askIdentityProvider(deps, request, issuer, {
    requested_token_type: ID_JAG_TOKEN_TYPE,
    audience,
    resource,
    ...(wanted.length === 0 ? {} : { scope: wanted.join(' ') }),
    subject_token: idToken.reveal(),
    subject_token_type: ID_TOKEN_TYPE,
  })
  const { clientId } = client
  const problem =
    answer.token_type.toLowerCase() !== 'n_a' || answer['issued_token_type'] !== ID_JAG_TOKEN_TYPE
      ? 'it issued no identity assertion'
      : problemOf(answer.access_token, { issuer, audience, clientId, resource, scopes: wanted, now: deps.clock.now() })
  if (problem !== undefined) throw refuse('provider_refused', { provider: issuer, problem })
  return answer.access_token
}

const askIdentityProvider = async (
  deps: IdJagDependencies,
  request: CredentialRequest,
  issuer: string,
  parameters: Record<string, string>,
): Promise<openid.TokenEndpointResponse> => {
  const { tenant, scopes, downstream } = request
  const configuration = await deps.identityProviders(tenant)
  try {
    return await deps.call({ provider: issuer, tenant: tenant.tenant, operation: 'identity assertion request' }, () =>
      openid.genericGrantRequest(configuration, 'urn:ietf:params:oauth:grant-type:token-exchange', parameters),
    )
  } catch (error) {
    if (failureOf(error) === 'denied')
      return askUser(deps.connectUrl, { request, scopes }, 'reconnect_required', wordsOf(error))
    throw refusalOf(error, { provider: issuer, downstream: downstream.downstream, now: deps.clock.now() })
  }
}
