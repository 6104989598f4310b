import { type ErrorKind, kind } from './kind.ts'

/** The subject: the user for whom a server acts, and the actor. */
export const subjectErrors = {
  client_unverified: kind(
    { status: 401, oauth: 'invalid_client', category: 'workload', retryable: false },
    'The client {client} could not be authenticated.',
    "Compare its id, and its secret or key, with clients/{client}.yaml, or with identity_assertions.clients in the tenant's file.",
  ),
  assertion_invalid: kind(
    { status: 400, oauth: 'invalid_grant', category: 'subject', retryable: false },
    'The identity assertion was not accepted: {problem}.',
    'Ask the identity provider for a new assertion for this server, client and resource.',
  ),
  subject_token_invalid: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    'The subject token was not accepted: {problem}.',
    'Sign the user in again and send the new token.',
  ),
  subject_token_expired: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    'The subject token expired at {expired_at}.',
    'Sign the user in again and send the new token.',
  ),
  subject_token_refused: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    "The provider {provider} did not accept the user's token: {problem}.",
    'Sign the user in again and send the new token.',
  ),
  subject_issuer_unknown: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    'No tenant that {server} serves trusts the issuer {issuer} of the subject token.',
    'Add the issuer to the file of its tenant: deputy issuer add --help',
  ),
  subject_audience_mismatch: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    'The subject token was issued for {audience}, not for {resource}: a server must not use a token that was issued for another one (confused deputy).',
    'Send the token that was issued for {resource}.',
  ),
  subject_tenant_unknown: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    'The subject token belongs to no enabled tenant.',
    'Check the tenant claim and `deputy tenant list`.',
  ),
  subject_tenant_frozen: kind(
    { status: 403, oauth: 'access_denied', category: 'subject', retryable: false },
    'The tenant {tenant} is frozen, so nothing is issued for it.',
    'Ask an admin: deputy tenant thaw {tenant}',
  ),
  subject_client_disabled: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    'The MCP client {client} may no longer be used here.',
    'Ask the administrator of Deputy: `enabled`, `tenants` and `servers` of clients/{client}.yaml say where it may be used.',
  ),
  authorization_details_unknown: kind(
    { status: 400, oauth: 'invalid_authorization_details', category: 'subject', retryable: false },
    'The assertion is limited by authorization details of the type {type}, which {server} does not enforce.',
    'Name the type in `authorization_details_types` of servers/{server}.yaml if the server enforces it.',
  ),
  agent_token_invalid: kind(
    { status: 400, oauth: 'invalid_grant', category: 'subject', retryable: false },
    'The token of the agent was not accepted: {problem}.',
    'Compare issuer, audience, subject and claims of the token with `agent.tokens` of a file in clients/.',
  ),
  agent_target_unknown: kind(
    { status: 400, oauth: 'invalid_target', category: 'target', retryable: false },
    'The agent {agent} gets no token for {resource}.',
    'Send the URI of a server of `agent.servers` in clients/{agent}.yaml as resource.',
  ),
  agent_scope_unavailable: kind(
    { status: 400, oauth: 'invalid_scope', category: 'policy', retryable: false },
    'None of the scopes {scopes} is for the agent {agent} at {server}.',
    'Compare them with `agent.servers` in clients/{agent}.yaml.',
  ),
  agent_not_served: kind(
    { status: 403, oauth: 'access_denied', category: 'target', retryable: false },
    'Credentials of the kind {credential} for {downstream} are for users, and {agent} is an agent.',
    'Use a downstream whose credential is minted, static, api_key, basic or client_credentials.',
  ),
  subject_user_disabled: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    'The user {user} of the tenant {tenant} is disabled.',
    'Ask an admin: deputy user enable {user} --tenant {tenant}',
  ),
  subject_claims_omitted: kind(
    { status: 403, oauth: 'access_denied', category: 'subject', retryable: false },
    'The identity provider left claims of this user out of the token ({claims}), as it does for users in very many groups, and the policies decide by these claims.',
    'Configure the identity provider to put only the groups that are assigned to the application, or app roles, into its tokens (in Entra ID: Token configuration), and map them in `claims.groups`.',
  ),
  subject_session_missing: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    'The Unix user {uid} has no session with Deputy.',
    'Run `deputy login --tenant TENANT` as that user.',
  ),
  subject_session_not_allowed: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    'The MCP server {server} may not use the login session of the Unix user.',
    'Set `login_session: true` in the file of {server}, or send a subject token.',
  ),
  actor_token_invalid: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    'The actor token was not accepted: {problem}.',
    'Send a token that identifies {server}, or none.',
  ),
  actor_mismatch: kind(
    { status: 400, oauth: 'invalid_request', category: 'subject', retryable: false },
    'The subject token names {expected} as its actor, and the actor of this request is {actual}.',
    'Only the named actor can exchange this token.',
  ),
  issuer_unreachable: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'subject', retryable: true },
    'The issuer {issuer} could not be reached to verify the subject token: {problem}.',
    'Try again in {seconds} seconds; `deputy explain` shows the answer of the issuer.',
  ),
  issuer_key_unknown: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'subject', retryable: true },
    'The key that signed the subject token is not among the keys that Deputy has just read from {issuer}.',
    'Try again in {seconds} seconds: Deputy then reads the keys again and accepts a new key.',
  ),
  issuer_not_understood: kind(
    { status: 502, oauth: 'server_error', category: 'subject', retryable: true },
    'The issuer {issuer} gave an unexpected answer: {problem}.',
    "Ask an admin to compare the issuer in the tenant's file with its metadata; `deputy explain` shows its answer.",
  ),
} as const satisfies Record<string, ErrorKind>
