import { type ErrorKind, kind } from './kind.ts'

/** Grants, and the providers and services that answer for them. */
export const grantErrors = {
  interaction_required: kind(
    { status: 400, oauth: 'interaction_required', category: 'grant', retryable: false },
    'The user has not connected {downstream} for {server} yet.',
    'Send the user to connect_url, then try again.',
  ),
  reconnect_required: kind(
    { status: 400, oauth: 'interaction_required', category: 'grant', retryable: false },
    'The connection to {downstream} has ended: {problem}.',
    'Send the user to connect_url to connect again, then try again.',
  ),
  step_up_required: kind(
    { status: 400, oauth: 'interaction_required', category: 'grant', retryable: false },
    '{downstream} requires the user to sign in again: {problem}.',
    'Send the user to connect_url or, if there is none, have the user sign in again with `claims`; then try again.',
  ),
  refresh_in_progress: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'grant', retryable: true },
    'The token for {downstream} is being refreshed and did not arrive in time.',
    'Try again in {seconds} seconds.',
  ),
  provider_unavailable: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'provider', retryable: true },
    'The provider {provider} gave no valid answer: {problem}.',
    'Try again in {seconds} seconds; `deputy explain` shows its answer.',
  ),
  provider_refused: kind(
    { status: 502, oauth: 'server_error', category: 'provider', retryable: false },
    'The provider {provider} refused: {problem}.',
    "Run `deputy explain` to see the provider's answer.",
  ),
  provider_busy: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'provider', retryable: true },
    'The provider {provider} is rate-limiting Deputy.',
    'Try again in {seconds} seconds.',
  ),
  provider_circuit_open: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'provider', retryable: true },
    'The provider {provider} failed repeatedly, so Deputy has paused its requests to it.',
    'Try again in {seconds} seconds.',
  ),
  database_not_offered: kind(
    { status: 400, oauth: 'invalid_target', category: 'target', retryable: false },
    'The downstream {downstream} has no {kind} server in its file.',
    'Add `{kind}` with its host to downstreams/{downstream}.yaml.',
  ),
  database_only: kind(
    { status: 403, oauth: 'access_denied', category: 'policy', retryable: false },
    'The login of {downstream} is not handed out: only Deputy uses it.',
    'Connect through the socket in listen.postgres or listen.redis; docs/exec.md shows how.',
  ),
  database_unreachable: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'provider', retryable: true },
    'The {kind} server of {downstream} could not be reached: {problem}.',
    'Try again; host, port and tls are under `{kind}` in downstreams/{downstream}.yaml.',
  ),
  database_refused: kind(
    { status: 502, oauth: 'server_error', category: 'provider', retryable: false },
    "The {kind} server of {downstream} rejected Deputy's login: {problem}.",
    'Check the secret (JSON with username and password), and `deputy rotation status` if it rotates.',
  ),
  connect_invalid: kind(
    { status: 400, oauth: 'invalid_request', category: 'grant', retryable: false },
    'This connect link is not valid: {problem}.',
    'Go back to the program that gave you the link and start again.',
  ),
  connect_cookie_missing: kind(
    { status: 400, oauth: 'invalid_request', category: 'grant', retryable: false },
    'This window did not keep the cookie with which the sign-in began, so Deputy cannot tell that it is the same one.',
    'Start again, and open the sign-in in your usual browser instead of a window inside another app. If it is your usual browser, allow cookies of this site.',
  ),
  connect_wrong_user: kind(
    { status: 403, oauth: 'access_denied', category: 'grant', retryable: false },
    'This link was made for a user other than the one who is signed in.',
    'Only the person who asked for the connection can complete it.',
  ),
  connect_denied: kind(
    { status: 403, oauth: 'access_denied', category: 'grant', retryable: false },
    'The connection was not allowed: {problem}.',
    'If this was a mistake, start again from the program that requested the connection.',
  ),
  egress_refused: kind(
    { status: 403, oauth: 'access_denied', category: 'provider', retryable: false },
    'Deputy does not connect to {url}: {problem}.',
    'If the address is correct, allow it under `network` in deputy.yaml.',
  ),
  remote_server_refused: kind(
    { status: 502, oauth: 'server_error', category: 'provider', retryable: false },
    'The remote MCP server cannot be added because of {url}: {problem}.',
    'Ask its operator, or write the provider and downstream files by hand (docs/remote-mcp.md).',
  ),
} as const satisfies Record<string, ErrorKind>
