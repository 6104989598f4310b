import { type ErrorKind, kind } from './kind.ts'

/** The injecting proxy. */
export const proxyErrors = {
  injection_only: kind(
    { status: 403, oauth: 'access_denied', category: 'proxy', retryable: false },
    'The credential of {downstream} is put into requests by the proxy and never handed out.',
    'Send the request through the proxy; see docs/proxy.md.',
  ),
  token_bound: kind(
    { status: 403, oauth: 'access_denied', category: 'proxy', retryable: false },
    'The tokens of {downstream} are bound to a key that only Deputy has (DPoP), so none is handed out.',
    'Send the request through the proxy, which proves the key; see docs/proxy.md.',
  ),
  injection_not_offered: kind(
    { status: 403, oauth: 'access_denied', category: 'proxy', retryable: false },
    'The proxy puts no credential of {downstream} into requests.',
    'Ask for a token, or add `inject` to the file of {downstream}.',
  ),
  injection_refused: kind(
    { status: 403, oauth: 'access_denied', category: 'proxy', retryable: false },
    'The credential of {downstream} may not be sent with this request: {problem}.',
    'Compare the request with `inject` in the file of {downstream}.',
  ),
  injection_host_unknown: kind(
    { status: 403, oauth: 'access_denied', category: 'proxy', retryable: false },
    'No downstream of {server} has the host {host}.',
    'Name a host that is under `inject.hosts` of a downstream in the file of {server}.',
  ),
  injection_unsafe: kind(
    { status: 502, oauth: 'server_error', category: 'proxy', retryable: false },
    'The credential of {downstream} cannot be put into a request: {problem}.',
    'Store the secret again without line breaks, and compare it with `inject` in the file of {downstream}.',
  ),
  placeholder_misplaced: kind(
    { status: 400, oauth: 'invalid_request', category: 'proxy', retryable: false },
    'The placeholder of {downstream} is in {place}, where Deputy does not replace it.',
    'Put it into {expected}.',
  ),
  beneficiary_missing: kind(
    { status: 400, oauth: 'invalid_request', category: 'proxy', retryable: false },
    'The request does not name the subject for which it is made.',
    "Send the user's token as Deputy-Subject-Token, or Deputy-On-Behalf-Of: session or server.",
  ),
  upstream_unreachable: kind(
    { status: 502, oauth: 'server_error', category: 'proxy', retryable: true },
    'The service at {host} could not be reached or ended the connection: {problem}.',
    'Try again, if the request may be repeated.',
  ),
  upstream_timeout: kind(
    { status: 504, oauth: 'temporarily_unavailable', category: 'proxy', retryable: true },
    'The service at {host} did not answer in time: {problem}.',
    'Try again, if the request may be repeated; proxy.answer in deputy.yaml sets the time limit.',
  ),
} as const satisfies Record<string, ErrorKind>
