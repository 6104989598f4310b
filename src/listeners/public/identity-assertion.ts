import type { IncomingMessage, ServerResponse } from 'node:http'
import { type CurrentSnapshot, takesAssertions } from '#config'
import { asDeputyError, refuse } from '#errors'
import type { RedeemIdentityAssertion } from '#flows/exchange'
import { Secret } from '#foundation/crypto'
import type { Logger } from '#foundation/telemetry'
import { paths, readEvidence, readForm, sendError, sendJson } from '#listeners/http'
import { parseScopes } from '#listeners/local-api'

export const JWT_BEARER_GRANT = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const LIMIT = 65_536

/** Metadata (RFC 8414) of the public token endpoint, whose one grant is that of an identity assertion. */
export const identityAssertionMetadata = (
  snapshot: CurrentSnapshot,
  pagesUrl: string,
): Readonly<Record<string, unknown>> & { readonly grant_types_supported?: readonly string[] } => {
  if (!takesAssertions({ tenants: '*' }, snapshot().tenants.values())) return {}
  return {
    // No grant here uses it, and RFC 8414 section 2 lets it be left out then; the MCP SDK's clients read no metadata without it.
    authorization_endpoint: `${pagesUrl}${paths.authorize}`,
    token_endpoint: `${pagesUrl}${paths.token}`,
    grant_types_supported: [JWT_BEARER_GRANT],
    authorization_grant_profiles_supported: ['urn:ietf:params:oauth:grant-profile:id-jag'],
    token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
  }
}

/** The token endpoint on the public address: identity assertions are redeemed there, and nothing else is done. */
export const identityAssertionEndpoint = (deps: {
  readonly redeem: RedeemIdentityAssertion
  readonly correlationId: () => string
  readonly logger: Logger
}) => {
  const answer = async (request: IncomingMessage, response: ServerResponse, correlationId: string): Promise<void> => {
    const form = await readForm(request, LIMIT)
    const { clientId, clientSecret } = readEvidence(request, form, undefined)
    const grantType = form.required('grant_type')
    if (grantType !== JWT_BEARER_GRANT) throw refuse('unsupported_grant_type', { grant_type: grantType.slice(0, 100) })
    if (clientId === undefined || clientSecret === undefined)
      throw refuse('client_unverified', { client: clientId?.slice(0, 100) ?? 'nobody' })
    const scopes = parseScopes(form.optional('scope'))
    const resource = form.optional('resource')
    const issued = await deps.redeem({
      clientId,
      clientSecret,
      assertion: new Secret(form.required('assertion')),
      correlationId,
      ...(scopes === undefined ? {} : { scopes }),
      ...(resource === undefined ? {} : { resource }),
    })
    sendJson(
      response,
      200,
      {
        access_token: issued.token.reveal(),
        token_type: issued.tokenType,
        expires_in: issued.expiresIn,
        ...(issued.scopes.length === 0 ? {} : { scope: issued.scopes.join(' ') }),
        ...(issued.authorizationDetails === undefined ? {} : { authorization_details: issued.authorizationDetails }),
      },
      { 'X-Correlation-Id': correlationId },
    )
  }
  return (request: IncomingMessage, response: ServerResponse): void => {
    const correlationId = deps.correlationId()
    answer(request, response, correlationId).catch((thrown: unknown) => {
      const error = asDeputyError(thrown)
      if (error.code === 'internal')
        deps.logger.error({ err: error.cause, correlation_id: correlationId }, 'a request failed inside Deputy')
      sendError(response, error, correlationId)
    })
  }
}
