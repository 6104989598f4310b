import { type CurrentSnapshot, takesAssertions } from '#config'
import { refuse } from '#errors'
import type { RedeemIdentityAssertion } from '#flows/exchange'
import { Secret } from '#foundation/crypto'
import { paths, readEvidence } from '#listeners/http'
import { type FailureDependencies, ownTokenEndpoint } from './own-tokens.ts'

export const JWT_BEARER_GRANT = 'urn:ietf:params:oauth:grant-type:jwt-bearer'

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

/** The token endpoint for identity assertions. */
export const identityAssertionEndpoint = (deps: FailureDependencies & { readonly redeem: RedeemIdentityAssertion }) =>
  ownTokenEndpoint(deps, (request, form, partsOf) => {
    const { clientId, clientSecret } = readEvidence(request, form, undefined)
    const grantType = form.required('grant_type')
    if (grantType !== JWT_BEARER_GRANT) throw refuse('unsupported_grant_type', { grant_type: grantType.slice(0, 100) })
    if (clientId === undefined || clientSecret === undefined)
      throw refuse('client_unverified', { client: clientId?.slice(0, 100) ?? 'nobody' })
    return deps.redeem({ ...partsOf(), clientId, clientSecret, assertion: new Secret(form.required('assertion')) })
  })
