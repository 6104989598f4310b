import type { IncomingMessage } from 'node:http'
import { decodeProtectedHeader } from 'jose'
import type { CurrentSnapshot, Snapshot } from '#config'
import { refuse } from '#errors'
import type { AgentRequest, IssueAgentToken } from '#flows/exchange'
import { Secret } from '#foundation/crypto'
import { agentsIn } from '#identity/client'
import { ASSERTION_ALGORITHMS, CLIENT_CREDENTIALS_GRANT, type Form, paths, readEvidence } from '#listeners/http'
import { readProof } from '#listeners/local-api'
import { JWT_BEARER_GRANT } from './identity-assertion.ts'
import { type FailureDependencies, ownTokenEndpoint } from './own-tokens.ts'

/** Whether a token request is one of an agent: the grants are those of identity assertions too, which say what they are. */
export const isAgentRequest = (form: Form | undefined, snapshot: Snapshot): boolean => {
  const grant = form?.optional('grant_type')
  if (grant !== CLIENT_CREDENTIALS_GRANT && grant !== JWT_BEARER_GRANT) return false
  if (agentsIn(snapshot).length === 0) return false
  return grant === CLIENT_CREDENTIALS_GRANT || !isIdentityAssertion(form?.optional('assertion'))
}

const isIdentityAssertion = (assertion: string | undefined): boolean => {
  try {
    return decodeProtectedHeader(assertion ?? '').typ === 'oauth-id-jag+jwt'
  } catch {
    return false
  }
}

/** Metadata (RFC 8414) of the token endpoint, where files name agents. */
export const agentMetadata = (
  snapshot: CurrentSnapshot,
  pagesUrl: string,
): Readonly<Record<string, unknown>> & { readonly grant_types_supported?: readonly string[] } => {
  const agents = agentsIn(snapshot())
  if (agents.length === 0) return {}
  const grants = [
    ...(agents.some(({ file }) => file.authentication !== 'none') ? [CLIENT_CREDENTIALS_GRANT] : []),
    ...(agents.some(({ agent }) => agent.tokens.length > 0) ? [JWT_BEARER_GRANT] : []),
  ]
  return {
    // MCP clients read no metadata without it.
    authorization_endpoint: `${pagesUrl}${paths.authorize}`,
    token_endpoint: `${pagesUrl}${paths.token}`,
    token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    token_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
    grant_types_supported: grants,
  }
}

/** How the agent proves who it is. @throws DeputyError `malformed_request`, `parameter_missing`, `client_unverified` */
const evidenceOf = (request: IncomingMessage, form: Form): AgentRequest['evidence'] => {
  const { clientId, clientSecret, clientAssertion } = readEvidence(request, form, undefined)
  if (form.required('grant_type') === JWT_BEARER_GRANT) {
    if (clientSecret !== undefined || clientAssertion !== undefined)
      throw refuse('malformed_request', { problem: 'an agent proves who it is in one way: by its token' })
    return { clientId, token: new Secret(form.required('assertion')) }
  }
  if (clientAssertion !== undefined) return { clientId, assertion: new Secret(clientAssertion) }
  if (clientId === undefined || clientSecret === undefined)
    throw refuse('client_unverified', { client: clientId?.slice(0, 100) ?? 'without an id' })
  return { clientId, secret: clientSecret }
}

/** The token endpoint for agents: `client_credentials` (RFC 6749 section 4.4), and JWTs of other issuers (RFC 7523 section 2.1). */
export const agentTokenEndpoint = (deps: FailureDependencies & { readonly issue: IssueAgentToken }) =>
  ownTokenEndpoint(deps, (request, form, partsOf) =>
    deps.issue({ ...partsOf(), evidence: evidenceOf(request, form), ...readProof(request) }),
  )
