import { type ErrorKind, kind } from './kind.ts'

/** The request itself: its form, its names and its rate. */
export const requestErrors = {
  malformed_request: kind(
    { status: 400, oauth: 'invalid_request', category: 'request', retryable: false },
    'The request is malformed: {problem}.',
    'Correct the request; see docs/local-api.md.',
  ),
  parameter_missing: kind(
    { status: 400, oauth: 'invalid_request', category: 'request', retryable: false },
    'The parameter {parameter} is missing or empty.',
    'Send {parameter} exactly once, with a value.',
  ),
  parameter_repeated: kind(
    { status: 400, oauth: 'invalid_request', category: 'request', retryable: false },
    'The parameter {parameter} was sent more than once.',
    'Send {parameter} exactly once.',
  ),
  argument_refused: kind(
    { status: 400, oauth: 'invalid_request', category: 'request', retryable: false },
    'The argument {argument} is not sent: {problem}.',
    'Correct the argument, then call the tool again.',
  ),
  unsupported_media_type: kind(
    { status: 415, oauth: 'invalid_request', category: 'request', retryable: false },
    'The content type {type} is not accepted here.',
    'Send the body as {expected}.',
  ),
  unsupported_content_encoding: kind(
    { status: 415, oauth: 'invalid_request', category: 'request', retryable: false },
    'The content encoding {encoding} is not accepted here.',
    'Send the body as it is, without Content-Encoding.',
  ),
  body_too_large: kind(
    { status: 413, oauth: 'invalid_request', category: 'request', retryable: false },
    'The body is larger than {limit} bytes.',
    'Send a smaller body.',
  ),
  method_not_allowed: kind(
    { status: 405, oauth: 'invalid_request', category: 'request', retryable: false },
    'The method {method} is not allowed here.',
    'Use {allowed}.',
  ),
  not_found: kind(
    { status: 404, oauth: 'invalid_request', category: 'request', retryable: false },
    'There is nothing at {path}.',
    'See docs/local-api.md for the endpoints.',
  ),
  name_unknown: kind(
    { status: 404, oauth: 'invalid_request', category: 'request', retryable: false },
    "There is no {kind} '{name}'.{hint} Nothing was changed.",
    'Correct the name, then run the command again.',
  ),
  user_unknown: kind(
    { status: 404, oauth: 'invalid_request', category: 'request', retryable: false },
    "No user '{user}' of {tenant} is known: there is no grant, consent, lease, session or recorded request of that name.{hint} Nothing was changed.",
    'Correct the name, or add --force to act on a user whom Deputy has never seen.',
  ),
  user_ambiguous: kind(
    { status: 409, oauth: 'invalid_request', category: 'request', retryable: false },
    "'{name}' is the name of several users: {users}. Nothing was changed.",
    'Name the user by the id.',
  ),
  issuer_unknown: kind(
    { status: 404, oauth: 'invalid_request', category: 'request', retryable: false },
    "No tenant trusts an issuer '{issuer}'.{hint} Nothing was changed.",
    'Correct the URL, or add --force to revoke an issuer that the configuration no longer names.',
  ),
  foreign_caller: kind(
    { status: 403, oauth: 'access_denied', category: 'request', retryable: false },
    'The request carries a {header} header that no local program sends.',
    'Call the local API from a program on this machine, not from a web page.',
  ),
  unsupported_grant_type: kind(
    { status: 400, oauth: 'unsupported_grant_type', category: 'request', retryable: false },
    'The grant type {grant_type} is not supported.',
    'Use urn:ietf:params:oauth:grant-type:token-exchange or client_credentials.',
  ),
  unsupported_token_type: kind(
    { status: 400, oauth: 'invalid_request', category: 'request', retryable: false },
    'The token type {token_type} cannot be used as {parameter}.',
    'Use one of the token types that the metadata document lists.',
  ),
  rate_limited: kind(
    { status: 429, oauth: 'temporarily_unavailable', category: 'request', retryable: true },
    'Too many requests for {what}.',
    'Wait for {seconds} seconds, then try again.',
  ),
  redirect_uri_invalid: kind(
    { status: 400, oauth: 'invalid_redirect_uri', category: 'request', retryable: false },
    'The redirect URI {uri} of the client cannot be registered: {problem}.',
    'Register https addresses, or http://127.0.0.1 with any port.',
  ),
  client_metadata_invalid: kind(
    { status: 400, oauth: 'invalid_client_metadata', category: 'request', retryable: false },
    'The description of the client cannot be used: {problem}.',
    'Correct the metadata of the client (RFC 7591 section 2); docs/sign-in.md says what Deputy reads of it.',
  ),
} as const satisfies Record<string, ErrorKind>
