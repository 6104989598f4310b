import { type ErrorKind, kind } from './kind.ts'

/** What a request is for: downstreams, tools, scopes and policy. */
export const targetErrors = {
  target_unknown: kind(
    { status: 400, oauth: 'invalid_target', category: 'target', retryable: false },
    'No downstream service is registered as {target} for {server}.',
    'Name one of the downstreams in the file of {server}, as audience (its id) or resource (its URI).',
  ),
  target_missing: kind(
    { status: 400, oauth: 'invalid_target', category: 'target', retryable: false },
    'The request names no downstream service.',
    "Send audience (the downstream's id) or resource (its URI).",
  ),
  targets_incompatible: kind(
    { status: 400, oauth: 'invalid_target', category: 'target', retryable: false },
    'One credential cannot serve {targets} together.',
    'Request one credential for each downstream.',
  ),
  targets_share_no_scope: kind(
    { status: 400, oauth: 'invalid_target', category: 'target', retryable: false },
    'A joint token for {targets} would leave one of them without a scope that policy allows {server}.',
    'Request one token for each downstream: a joint token has a scope only if every downstream that defines the scope allows it.',
  ),
  tool_unknown: kind(
    { status: 400, oauth: 'invalid_request', category: 'policy', retryable: false },
    '{server} has no tool {tool}.',
    'Use the name of a tool of {server}: its file lists them, or the APIs that it names have them (`deputy api tools`). The tool `*` of a file covers all others.',
  ),
  tool_other_target: kind(
    { status: 400, oauth: 'invalid_target', category: 'target', retryable: false },
    'The tool {tool} of {server} uses {needed}, not {downstream}.',
    'Request {needed}, or correct the downstream of the tool in the file of {server}.',
  ),
  // RFC 6750 section 3.1.
  insufficient_scope: kind(
    { status: 403, oauth: 'insufficient_scope', category: 'policy', retryable: false },
    "The tool {tool} of {server} requires the scopes {scopes}, and the user's own token does not have them.",
    'Answer the client with 403 and WWW-Authenticate: Bearer error="insufficient_scope", scope="{scopes}"; then repeat the request with the client\'s new token.',
  ),
  scope_not_available: kind(
    { status: 400, oauth: 'invalid_scope', category: 'policy', retryable: false },
    'None of the scopes {scopes} can be issued to {server} for {downstream}.',
    'Compare the scopes with the file of {server}; `deputy policy explain` shows the decision.',
  ),
  scope_not_narrowable: kind(
    { status: 400, oauth: 'invalid_scope', category: 'grant', retryable: false },
    'The provider {provider} cannot issue less than {granted}, and the files do not allow an over-scoped token.',
    'Request all of the granted scopes, or set `over_scoped: mark` for {downstream}.',
  ),
  scope_not_asked: kind(
    { status: 403, oauth: 'access_denied', category: 'grant', retryable: false },
    'The provider {provider} granted {surplus}, which was not requested, so nothing was connected.',
    'Ask an admin to list scopes that give access to nothing under answers.ignored_scopes in providers/{provider}.yaml, to set refresh.narrows there if the provider can narrow tokens, or to set over_scoped: mark in downstreams/{downstream}.yaml.',
  ),
  client_denied: kind(
    { status: 403, oauth: 'access_denied', category: 'policy', retryable: false },
    'Policy does not let the client {client} use {server} for this user.',
    'The administrator of Deputy sees in `deputy audit query --event client.consent` who was refused; the policies that forbid sign_in decide.',
  ),
  policy_denied: kind(
    { status: 403, oauth: 'access_denied', category: 'policy', retryable: false },
    'Policy does not let {server} act on {downstream} for this user.',
    'Run `deputy policy explain` to see which rule decided.',
  ),
} as const satisfies Record<string, ErrorKind>
