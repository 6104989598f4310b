/**
 * The one taxonomy of everything that Deputy can refuse or fail at.
 *
 * Inside the daemon an error is a `DeputyError` with a code from this table; only the edges (`http/`, `cli/`)
 * turn it into an OAuth error response (RFC 6749 section 5.2), a page or an exit code. A sentence says what
 * happened, `next` says what to do about it. Both may name the `{facts}` given with the error, and facts must
 * never be secret: they reach callers, logs and audit records.
 */

/** Error codes that the OAuth family of standards defines and that the local API answers with. */
export type OAuthErrorCode =
  | 'invalid_request' // RFC 6749 5.2; RFC 8693 2.2.2 also for an unacceptable subject or actor token
  | 'invalid_client'
  | 'invalid_grant'
  | 'unauthorized_client'
  | 'unsupported_grant_type'
  | 'invalid_scope'
  | 'insufficient_scope' // RFC 6750 3.1: the user's own token
  | 'invalid_target' // RFC 8693 2.2.2, RFC 8707 2
  | 'access_denied' // RFC 6749 4.1.2.1, used when policy denies
  | 'invalid_dpop_proof' // RFC 9449 5
  | 'use_dpop_nonce' // RFC 9449 8
  | 'interaction_required' // OpenID Connect Core 3.1.2.6
  | 'temporarily_unavailable'
  | 'server_error'

/** The bounded value that metrics carry to say in which room a request ended. */
export type ErrorCategory =
  | 'request'
  | 'workload'
  | 'subject'
  | 'policy'
  | 'target'
  | 'grant'
  | 'provider'
  | 'secret'
  | 'audit'
  | 'revocation'
  | 'config'
  | 'store'
  | 'proxy'
  | 'internal'

interface ErrorKind {
  readonly status: number
  readonly oauth: OAuthErrorCode
  readonly category: ErrorCategory
  readonly retryable: boolean
  readonly sentence: string
  readonly next: string
}

const kind = (
  status: number,
  oauth: OAuthErrorCode,
  category: ErrorCategory,
  retryable: boolean,
  sentence: string,
  next: string,
): ErrorKind => ({ status, oauth, category, retryable, sentence, next })

export const taxonomy = {
  // request
  malformed_request: kind(
    400,
    'invalid_request',
    'request',
    false,
    'The request is malformed: {problem}.',
    'Correct the request; see docs/local-api.md.',
  ),
  parameter_missing: kind(
    400,
    'invalid_request',
    'request',
    false,
    'The parameter {parameter} is missing or empty.',
    'Send {parameter} exactly once, with a value.',
  ),
  parameter_repeated: kind(
    400,
    'invalid_request',
    'request',
    false,
    'The parameter {parameter} was sent more than once.',
    'Send {parameter} exactly once.',
  ),
  unsupported_media_type: kind(
    415,
    'invalid_request',
    'request',
    false,
    'The content type {type} is not accepted here.',
    'Send the body as {expected}.',
  ),
  unsupported_content_encoding: kind(
    415,
    'invalid_request',
    'request',
    false,
    'The content encoding {encoding} is not accepted here.',
    'Send the body as it is, without Content-Encoding.',
  ),
  body_too_large: kind(
    413,
    'invalid_request',
    'request',
    false,
    'The body is larger than {limit} bytes.',
    'Send a smaller body.',
  ),
  method_not_allowed: kind(
    405,
    'invalid_request',
    'request',
    false,
    'The method {method} is not allowed here.',
    'Use {allowed}.',
  ),
  not_found: kind(
    404,
    'invalid_request',
    'request',
    false,
    'There is nothing at {path}.',
    'See docs/local-api.md for the endpoints.',
  ),
  name_unknown: kind(
    404,
    'invalid_request',
    'request',
    false,
    "There is no {kind} '{name}'.{hint} Nothing was changed.",
    'Correct the name, then run the command again.',
  ),
  user_unknown: kind(
    404,
    'invalid_request',
    'request',
    false,
    "No user '{user}' of {tenant} is known: there is no grant, consent, lease, session or audit record of that name.{hint} Nothing was changed.",
    'Correct the name, or add --force to act on a user whom Deputy has never seen.',
  ),
  user_ambiguous: kind(
    409,
    'invalid_request',
    'request',
    false,
    "'{name}' is the name of several users: {users}. Nothing was changed.",
    'Name the user by the id.',
  ),
  issuer_unknown: kind(
    404,
    'invalid_request',
    'request',
    false,
    "No tenant trusts an issuer '{issuer}'.{hint} Nothing was changed.",
    'Correct the URL, or add --force to revoke an issuer that the configuration no longer names.',
  ),
  foreign_caller: kind(
    403,
    'access_denied',
    'request',
    false,
    'The request carries a {header} header that no local program sends.',
    'Call the local API from a program on this machine, not from a web page.',
  ),
  unsupported_grant_type: kind(
    400,
    'unsupported_grant_type',
    'request',
    false,
    'The grant type {grant_type} is not supported.',
    'Use urn:ietf:params:oauth:grant-type:token-exchange or client_credentials.',
  ),
  unsupported_token_type: kind(
    400,
    'invalid_request',
    'request',
    false,
    'The token type {token_type} cannot be used as {parameter}.',
    'Use one of the token types that the metadata document lists.',
  ),
  rate_limited: kind(
    429,
    'temporarily_unavailable',
    'request',
    true,
    'Too many requests for {what}.',
    'Wait for {seconds} seconds, then try again.',
  ),

  // workload
  workload_unknown: kind(
    401,
    'invalid_client',
    'workload',
    false,
    'No approved MCP server matches this caller.',
    'Ask an admin to look at `deputy server unknown` and to register this server.',
  ),
  workload_ambiguous: kind(
    401,
    'invalid_client',
    'workload',
    false,
    'More than one registered MCP server matches this caller.',
    'Send client_id to say which one is calling.',
  ),
  workload_not_approved: kind(
    401,
    'invalid_client',
    'workload',
    false,
    'The MCP server {server} is {status}, so it gets no credentials.',
    'Ask its owner {owner} to have it approved{replacement}.',
  ),
  workload_unverified: kind(
    401,
    'invalid_client',
    'workload',
    false,
    'The client authentication of {server} could not be verified: {problem}.',
    'Check the credentials that {server} uses against its file in servers/.',
  ),
  workload_vanished: kind(
    401,
    'invalid_client',
    'workload',
    true,
    'The calling process ended while it was being looked up.',
    'Call again from a process that stays alive until it is answered.',
  ),
  proof_invalid: kind(
    400,
    'invalid_dpop_proof',
    'workload',
    false,
    'The DPoP proof was not accepted: {problem}.',
    'Make a new proof for this request (RFC 9449 section 4.2).',
  ),
  proof_nonce_needed: kind(
    400,
    'use_dpop_nonce',
    'workload',
    false,
    'The DPoP proof has to carry the nonce that this answer brings.',
    'Make a new proof with the nonce of the DPoP-Nonce header.',
  ),
  proof_missing: kind(
    400,
    'invalid_dpop_proof',
    'workload',
    false,
    'Tokens for {downstream} are bound to a key of {server}, and the request proves none.',
    'Send a DPoP header with the request (RFC 9449 section 5).',
  ),
  exec_not_registered: kind(
    401,
    'invalid_client',
    'workload',
    false,
    'The MCP server {server} is not registered to be started with `deputy exec` by the Unix user {uid}.',
    'Ask an admin to write attest: [{ exec: { uid: {uid} } }] into servers/{server}.yaml, and to run deputy check.',
  ),
  exec_not_child: kind(
    403,
    'access_denied',
    'workload',
    false,
    'The process {pid} is not a running child of the calling process and of the same user.',
    'Start the server with `deputy exec`, where the daemon can see its processes: on this machine, in no container of its own, and not hidden by ProtectProc or hidepid.',
  ),
  exec_session_over: kind(
    401,
    'invalid_client',
    'workload',
    false,
    'The exec session of {server} is over: {problem}.',
    'Start the server again with `deputy exec --server {server}`.',
  ),
  workload_own_tenant: kind(
    403,
    'unauthorized_client',
    'workload',
    false,
    'The MCP server {server} acts for itself only if it is registered for exactly one enabled tenant.',
    'Name one tenant under `tenants` in the file of {server}.',
  ),
  workload_tenant: kind(
    403,
    'unauthorized_client',
    'workload',
    false,
    'The MCP server {server} is not registered for the tenant {tenant}.',
    'Add {tenant} to `tenants` in the file of {server}.',
  ),

  // subject
  client_unverified: kind(
    401,
    'invalid_client',
    'workload',
    false,
    'The client {client} could not be authenticated.',
    "Compare its id and secret with identity_assertions.clients in the tenant's file.",
  ),
  assertion_invalid: kind(
    400,
    'invalid_grant',
    'subject',
    false,
    'The identity assertion was not accepted: {problem}.',
    'Ask the identity provider for a new assertion for this server, client and resource.',
  ),
  subject_token_invalid: kind(
    400,
    'invalid_request',
    'subject',
    false,
    'The subject token was not accepted: {problem}.',
    'Sign the user in again and send the new token.',
  ),
  subject_token_expired: kind(
    400,
    'invalid_request',
    'subject',
    false,
    'The subject token expired at {expired_at}.',
    'Sign the user in again and send the new token.',
  ),
  subject_token_refused: kind(
    400,
    'invalid_request',
    'subject',
    false,
    "The provider {provider} did not accept the user's token: {problem}.",
    'Sign the user in again and send the new token.',
  ),
  subject_issuer_unknown: kind(
    400,
    'invalid_request',
    'subject',
    false,
    'The issuer {issuer} of the subject token is trusted by no tenant that {server} serves.',
    'Add the issuer to the file of its tenant: deputy issuer add --help',
  ),
  subject_audience_mismatch: kind(
    400,
    'invalid_request',
    'subject',
    false,
    "The subject token was issued for {audience}, not for {resource}: passing another server's token on is the confused deputy.",
    'Send the token that was issued for {resource}.',
  ),
  subject_tenant_unknown: kind(
    400,
    'invalid_request',
    'subject',
    false,
    'The subject token belongs to no tenant that is enabled here.',
    'Check the tenant claim and `deputy tenant list`.',
  ),
  subject_tenant_frozen: kind(
    403,
    'access_denied',
    'subject',
    false,
    'The tenant {tenant} is frozen, so nothing is issued for it.',
    'Ask an admin: deputy tenant thaw {tenant}',
  ),
  subject_user_disabled: kind(
    400,
    'invalid_request',
    'subject',
    false,
    'The user {user} of the tenant {tenant} is disabled.',
    'Ask an admin: deputy user enable {user} --tenant {tenant}',
  ),
  subject_claims_omitted: kind(
    403,
    'access_denied',
    'subject',
    false,
    'The identity provider leaves claims of this user out of the token ({claims}), as for users who are in very many groups, and policies here decide by them.',
    'Have the identity provider put only the groups that are assigned to the application, or app roles, into its tokens (in Entra ID: Token configuration), and map them in `claims.groups`.',
  ),
  subject_session_missing: kind(
    400,
    'invalid_request',
    'subject',
    false,
    'The Unix user {uid} has no session with Deputy.',
    'Run `deputy login --tenant TENANT` as that user.',
  ),
  subject_session_not_allowed: kind(
    400,
    'invalid_request',
    'subject',
    false,
    "The MCP server {server} may not act on the Unix user's own session.",
    'Set `login_session: true` in the file of {server}, or send a subject token.',
  ),
  actor_token_invalid: kind(
    400,
    'invalid_request',
    'subject',
    false,
    'The actor token was not accepted: {problem}.',
    'Send a token that proves who {server} is, or none.',
  ),
  actor_mismatch: kind(
    400,
    'invalid_request',
    'subject',
    false,
    'The subject token names {expected} as its actor, and the actor here is {actual}.',
    'Only the named actor can exchange this token.',
  ),
  issuer_unreachable: kind(
    503,
    'temporarily_unavailable',
    'subject',
    true,
    'The issuer {issuer} could not be reached to verify the subject token: {problem}.',
    'Try again in {seconds} seconds; `deputy explain` shows what the issuer answered.',
  ),
  issuer_key_unknown: kind(
    503,
    'temporarily_unavailable',
    'subject',
    true,
    'The key that signed the subject token is not among the keys of {issuer} that were read a moment ago.',
    'Try again in {seconds} seconds: the keys are read again then, and a key that is new counts.',
  ),
  issuer_not_understood: kind(
    502,
    'server_error',
    'subject',
    true,
    'The issuer {issuer} answered, but not as the issuer of that name: {problem}.',
    "An admin compares the issuer in the tenant's file with what it publishes; `deputy explain` shows what it answered.",
  ),

  // target and policy
  target_unknown: kind(
    400,
    'invalid_target',
    'target',
    false,
    'No downstream service is registered as {target} for {server}.',
    'Name one of the downstreams in the file of {server}, as audience (its id) or resource (its URI).',
  ),
  target_missing: kind(
    400,
    'invalid_target',
    'target',
    false,
    'The request names no downstream service.',
    "Send audience (the downstream's id) or resource (its URI).",
  ),
  targets_incompatible: kind(
    400,
    'invalid_target',
    'target',
    false,
    'One credential cannot serve {targets} together.',
    'Ask for one credential a downstream.',
  ),
  targets_share_no_scope: kind(
    400,
    'invalid_target',
    'target',
    false,
    'A token for {targets} together would leave one of them without a scope that policy allows to {server}.',
    'Ask for one token a downstream: a joint token has a scope only if every downstream that knows the scope allows it.',
  ),
  tool_unknown: kind(
    400,
    'invalid_request',
    'policy',
    false,
    'The file of {server} lists no tool {tool}.',
    'Name the tool as the file of {server} does, or add it there; a tool `*` in the file stands for all others.',
  ),
  tool_other_target: kind(
    400,
    'invalid_target',
    'target',
    false,
    'The tool {tool} of {server} uses {needed}, not {downstream}.',
    'Ask for {needed}, or correct the downstream of the tool in the file of {server}.',
  ),
  // RFC 6750 section 3.1.
  insufficient_scope: kind(
    403,
    'insufficient_scope',
    'policy',
    false,
    "The tool {tool} of {server} requires the scopes {scopes} of the user's own token, which has them not.",
    'Answer the client with 403 and WWW-Authenticate: Bearer error="insufficient_scope", scope="{scopes}"; then ask with the token that it brings.',
  ),
  scope_not_available: kind(
    400,
    'invalid_scope',
    'policy',
    false,
    'None of the scopes {scopes} can be issued to {server} for {downstream}.',
    'Compare the scopes with the file of {server}; `deputy policy explain` shows the decision.',
  ),
  scope_not_narrowable: kind(
    400,
    'invalid_scope',
    'grant',
    false,
    'The provider {provider} cannot issue less than {granted}, and the files do not allow an over-scoped token.',
    'Ask for all of the granted scopes, or set `over_scoped: mark` for {downstream}.',
  ),
  scope_not_asked: kind(
    403,
    'access_denied',
    'grant',
    false,
    'The provider {provider} gave {surplus} without having been asked, so nothing was connected.',
    'An admin names in providers/{provider}.yaml what opens nothing (answers.ignored_scopes), sets refresh.narrows there where the provider can narrow, or over_scoped: mark in downstreams/{downstream}.yaml.',
  ),
  policy_denied: kind(
    403,
    'access_denied',
    'policy',
    false,
    'Policy does not let {server} act on {downstream} for this user.',
    'deputy policy explain shows which rule decided.',
  ),

  // grant and provider
  interaction_required: kind(
    400,
    'interaction_required',
    'grant',
    false,
    'The user has not connected {downstream} for {server} yet.',
    'Send the user to connect_url, then try again.',
  ),
  reconnect_required: kind(
    400,
    'interaction_required',
    'grant',
    false,
    'The connection to {downstream} has ended: {problem}.',
    'Send the user to connect_url to connect again, then try again.',
  ),
  step_up_required: kind(
    400,
    'interaction_required',
    'grant',
    false,
    '{downstream} requires the user to sign in again: {problem}.',
    'Send the user to connect_url, or, where there is none, have the user sign in anew with `claims`; then try again.',
  ),
  refresh_in_progress: kind(
    503,
    'temporarily_unavailable',
    'grant',
    true,
    'The token for {downstream} is being refreshed and did not arrive in time.',
    'Try again in {seconds} seconds.',
  ),
  provider_unavailable: kind(
    503,
    'temporarily_unavailable',
    'provider',
    true,
    'The provider {provider} did not answer as it should: {problem}.',
    'Try again in {seconds} seconds; `deputy explain` shows what it answered.',
  ),
  provider_refused: kind(
    502,
    'server_error',
    'provider',
    false,
    'The provider {provider} refused: {problem}.',
    "deputy explain shows the provider's own words.",
  ),
  provider_busy: kind(
    503,
    'temporarily_unavailable',
    'provider',
    true,
    'The provider {provider} is rate-limiting Deputy.',
    'Try again in {seconds} seconds.',
  ),
  provider_circuit_open: kind(
    503,
    'temporarily_unavailable',
    'provider',
    true,
    'The provider {provider} has failed repeatedly, so Deputy has stopped calling it for a while.',
    'Try again in {seconds} seconds.',
  ),
  database_not_offered: kind(
    400,
    'invalid_target',
    'target',
    false,
    'The downstream {downstream} has no {kind} server in its file.',
    'Add `{kind}` with its host to downstreams/{downstream}.yaml.',
  ),
  database_only: kind(
    403,
    'access_denied',
    'policy',
    false,
    'The login of {downstream} is not handed out: only Deputy uses it.',
    'Connect through the socket in listen.postgres or listen.redis; docs/exec.md shows how.',
  ),
  database_unreachable: kind(
    503,
    'temporarily_unavailable',
    'provider',
    true,
    'The {kind} server of {downstream} could not be reached: {problem}.',
    'Try again; host, port and tls are under `{kind}` in downstreams/{downstream}.yaml.',
  ),
  database_refused: kind(
    502,
    'server_error',
    'provider',
    false,
    'The {kind} server of {downstream} did not take the login that Deputy has for it: {problem}.',
    'Check the secret (JSON with username and password), and deputy rotation status if it rotates.',
  ),
  connect_invalid: kind(
    400,
    'invalid_request',
    'grant',
    false,
    'This connect link is not valid: {problem}.',
    'Go back to the program that gave you the link and start again.',
  ),
  connect_wrong_user: kind(
    403,
    'access_denied',
    'grant',
    false,
    'This link was made for another user than the one who is signed in.',
    'Only the person who asked for the connection can complete it.',
  ),
  connect_denied: kind(
    403,
    'access_denied',
    'grant',
    false,
    'The connection was not allowed: {problem}.',
    'Start again from the program that asked, if that was a mistake.',
  ),
  egress_refused: kind(
    403,
    'access_denied',
    'provider',
    false,
    'Deputy does not connect to {url}: {problem}.',
    'Allow the address under `network` in deputy.yaml if it is meant.',
  ),

  // proxy
  injection_only: kind(
    403,
    'access_denied',
    'proxy',
    false,
    'The credential of {downstream} is put into requests by the proxy and never handed out.',
    'Send the request through the proxy; see docs/proxy.md.',
  ),
  token_bound: kind(
    403,
    'access_denied',
    'proxy',
    false,
    'The tokens of {downstream} are bound to a key that only Deputy has (DPoP), so none is handed out.',
    'Send the request through the proxy, which proves the key; see docs/proxy.md.',
  ),
  injection_not_offered: kind(
    403,
    'access_denied',
    'proxy',
    false,
    'The proxy puts no credential of {downstream} into requests.',
    'Ask for a token, or add `inject` to the file of {downstream}.',
  ),
  injection_refused: kind(
    403,
    'access_denied',
    'proxy',
    false,
    'The credential of {downstream} does not go there: {problem}.',
    'Compare the request with `inject` in the file of {downstream}.',
  ),
  injection_host_unknown: kind(
    403,
    'access_denied',
    'proxy',
    false,
    'No downstream of {server} has the host {host}.',
    'Name a host that is under `inject.hosts` of a downstream in the file of {server}.',
  ),
  injection_unsafe: kind(
    502,
    'server_error',
    'proxy',
    false,
    'The credential of {downstream} cannot be put into a request: {problem}.',
    'Store the secret anew, without line breaks; compare it with `inject` in the file of {downstream}.',
  ),
  placeholder_misplaced: kind(
    400,
    'invalid_request',
    'proxy',
    false,
    'The placeholder of {downstream} stands in {place}, where nothing takes its place.',
    'Put it into {expected}.',
  ),
  beneficiary_missing: kind(
    400,
    'invalid_request',
    'proxy',
    false,
    'The request does not say for whom it is.',
    "Send the user's token as Deputy-Subject-Token, or Deputy-On-Behalf-Of: session or server.",
  ),
  upstream_unreachable: kind(
    502,
    'server_error',
    'proxy',
    true,
    'The service at {host} could not be reached or ended the connection: {problem}.',
    'Try again, if the request may be repeated.',
  ),
  upstream_timeout: kind(
    504,
    'temporarily_unavailable',
    'proxy',
    true,
    'The service at {host} did not answer in time: {problem}.',
    'Try again, if the request may be repeated; proxy.answer in deputy.yaml is the longest wait.',
  ),

  // secret, store, audit, revocation
  secret_malformed: kind(
    502,
    'server_error',
    'secret',
    false,
    'The secret {secret} of the tenant {tenant} is not what {downstream} takes: {problem}.',
    'Correct it in its backend; in the embedded one with deputy secret set {secret} --tenant {tenant}',
  ),
  secret_missing: kind(
    503,
    'server_error',
    'secret',
    false,
    'The secret {secret} of the tenant {tenant} does not exist.',
    'Put it into its backend; into the embedded one with deputy secret set {secret} --tenant {tenant}',
  ),
  rotation_in_progress: kind(
    503,
    'temporarily_unavailable',
    'secret',
    true,
    'The secret {secret} of the tenant {tenant} is being changed, and its target takes neither the old nor the new one yet.',
    'Try again in {seconds} seconds; deputy rotation status shows how it stands.',
  ),
  rotation_not_possible: kind(
    409,
    'invalid_request',
    'secret',
    false,
    'That is not possible with this rotation: {problem}.',
    'deputy rotation status shows how it stands.',
  ),
  secret_backend_unavailable: kind(
    503,
    'temporarily_unavailable',
    'secret',
    true,
    'The secret backend {backend} did not answer as it should: {problem}.',
    'Try again; `deputy status` shows the state of each backend.',
  ),
  secret_backend_refused: kind(
    502,
    'server_error',
    'secret',
    false,
    'The secret backend {backend} refused: {problem}.',
    'Check its settings under secrets.backends in deputy.yaml, and what its policy allows Deputy.',
  ),
  wrapping_violated: kind(
    502,
    'server_error',
    'secret',
    false,
    'A wrapping token of the secret backend {backend} cannot be trusted: {problem}.',
    'Find out who opened it, revoke its content, and create a new one.',
  ),
  key_service_unavailable: kind(
    503,
    'temporarily_unavailable',
    'secret',
    true,
    'The key service did not answer as it should: {problem}. Nothing is lost.',
    'Try again; `deputy status` shows the state of the key service.',
  ),
  key_service_refused: kind(
    503,
    'server_error',
    'secret',
    false,
    'The key service refused: {problem}. Nothing is lost.',
    'Check `kek` in deputy.yaml, and what the key service allows Deputy; docs/vaults.md lists the permissions.',
  ),
  data_key_unavailable: kind(
    503,
    'server_error',
    'secret',
    false,
    'The data key of the tenant {tenant} cannot be opened: {problem}. What it encrypts is still there.',
    'An admin reads in `deputy explain` which file or key is meant.',
  ),
  secret_unreadable: kind(
    503,
    'server_error',
    'secret',
    false,
    'A stored secret of the tenant {tenant} can no longer be read.',
    'If the tenant was revoked this is final; otherwise check the folder of data keys (`keys`), and `kek` and `kek_earlier` in deputy.yaml.',
  ),
  revoked: kind(
    400,
    'invalid_request',
    'revocation',
    false,
    'What this request relies on was revoked ({scope}) at {revoked_at}.',
    'Sign the user in again, or ask the admin who revoked it. Tokens of the first 30 seconds after a revocation count as issued before it.',
  ),
  audit_unavailable: kind(
    503,
    'temporarily_unavailable',
    'audit',
    true,
    'The audit sink {sink} did not confirm the record ({problem}), so nothing was issued.',
    'Repair the sink; `deputy status` shows its state.',
  ),
  store_unavailable: kind(
    503,
    'temporarily_unavailable',
    'store',
    true,
    'The store did not answer: {problem}.',
    'Try again; `deputy status` shows its state.',
  ),
  membership_lost: kind(
    503,
    'temporarily_unavailable',
    'store',
    true,
    'The node {node} has lost its cluster membership and cannot confirm that every revocation was applied: {problem}.',
    'Try again; `deputy status` shows the state of the node.',
  ),
  node_replaced: kind(
    503,
    'temporarily_unavailable',
    'store',
    true,
    'Another daemon has started as the node {node} on this store; this one ends, so that the two do not write one audit chain.',
    'Give each daemon a name of its own under `node` in deputy.yaml.',
  ),
  conflict: kind(
    409,
    'invalid_request',
    'store',
    true,
    'A concurrent request changed the {what}.',
    'Read it again and repeat the change.',
  ),
  config_invalid: kind(
    500,
    'server_error',
    'config',
    false,
    'The configuration is not valid: {problem}.',
    'deputy check lists every problem with its line.',
  ),
  start_failed: kind(503, 'temporarily_unavailable', 'internal', true, 'Deputy cannot start: {problem}.', '{fix}'),
  draining: kind(
    503,
    'temporarily_unavailable',
    'internal',
    true,
    'Deputy is shutting down.',
    'Try again in {seconds} seconds.',
  ),
  internal: kind(
    500,
    'server_error',
    'internal',
    true,
    'Something failed inside Deputy.',
    'Look up the correlation id: deputy explain {correlation_id}',
  ),
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof taxonomy
export type ErrorFacts = Readonly<Record<string, string | number>>

const fill = (template: string, facts: ErrorFacts): string =>
  template.replace(/\{(\w+)\}/g, (_, name: string) => String(facts[name] ?? ''))

/** An error of the taxonomy. `cause` is for logs only and never reaches a caller. */
export class DeputyError extends Error {
  override readonly name = 'DeputyError'
  readonly code: ErrorCode
  readonly facts: ErrorFacts
  constructor(code: ErrorCode, facts: ErrorFacts = {}, options?: { cause?: unknown }) {
    super(fill(taxonomy[code].sentence, facts), options)
    this.code = code
    this.facts = facts
  }
  get kind(): ErrorKind {
    return taxonomy[this.code]
  }
  /** What the reader should do next. */
  get next(): string {
    return fill(taxonomy[this.code].next, this.facts)
  }
  /** Seconds after which a retry makes sense, for `Retry-After`; undefined when a retry does not help. */
  get retryAfter(): number | undefined {
    if (!this.kind.retryable) return undefined
    const seconds = Number(this.facts['seconds'])
    return Number.isFinite(seconds) && seconds > 0 ? Math.ceil(seconds) : 1
  }
}

/** Makes an error of the taxonomy: `throw refuse('target_unknown', { target, server })`. */
export const refuse = (code: ErrorCode, facts: ErrorFacts = {}, cause?: unknown): DeputyError =>
  new DeputyError(code, facts, cause === undefined ? undefined : { cause })

/**
 * An error for admins: its sentence, the words of another service, and `details` (paths, names of keys), which callers do not get.
 * @returns one line, without secrets
 */
export const forAdmins = (error: DeputyError): string => {
  const words = wordsOfPeer(error)
  const { details } = error.facts
  return [
    error.message,
    ...(words === undefined ? [] : [`It said: ${words}`]),
    ...(details === undefined ? [] : [details]),
  ].join(' ')
}

/** The problem of an error for admins, as `forAdmins`. */
export const problemForAdmins = (error: DeputyError): string => {
  const { problem = error.message } = error.facts
  const words = wordsOfPeer(error)
  return words === undefined ? String(problem) : `${problem}: ${words}`
}

/** What another service has said; `yes` stands for an answer whose words are not known. */
const wordsOfPeer = ({ facts: { answered } }: DeputyError): ErrorFacts[string] | undefined =>
  answered === 'yes' ? undefined : answered

const MAX_REASON = 300

/** Whatever was thrown, as admins read it later in a row or a history: as `forAdmins`, 300 characters at most. */
export const reasonForAdmins = (thrown: unknown): string =>
  (thrown instanceof DeputyError ? forAdmins(thrown) : (thrown as Error).message).slice(0, MAX_REASON)

/** Whatever was thrown, as an error of the taxonomy; what was not foreseen becomes `internal` and keeps its cause. */
export const asDeputyError = (thrown: unknown): DeputyError =>
  thrown instanceof DeputyError ? thrown : new DeputyError('internal', {}, { cause: thrown })
