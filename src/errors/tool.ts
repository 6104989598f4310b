import { type ErrorKind, kind } from './kind.ts'

/** Tools that are operations of APIs. */
export const toolErrors = {
  tool_arguments_invalid: kind(
    { status: 400, oauth: 'invalid_request', category: 'request', retryable: false },
    'The arguments of {tool} are not valid: {problem}.',
    'Correct the arguments; tools/list has the schema.',
  ),
  call_cancelled: kind(
    { status: 400, oauth: 'invalid_request', category: 'request', retryable: false },
    'The client cancelled the call of {tool}, or ended the connection.',
    'Call the tool again if its result is still needed; the API may have handled the request.',
  ),
  api_resting: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'proxy', retryable: true },
    'The API at {host} has failed repeatedly, so Deputy pauses its requests for now.',
    'Try again later.',
  ),
  answers_pending: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'proxy', retryable: true },
    'The answers that Deputy is reading for {whom} have {bytes} bytes, and it holds no more at a time.',
    'Try again later, or ask for less.',
  ),
  api_timeout: kind(
    { status: 504, oauth: 'temporarily_unavailable', category: 'proxy', retryable: true },
    'The call of {tool} took longer than {seconds} seconds.',
    'Try again if the call may be repeated; `timeout` in the file of the API sets the limit.',
  ),
} as const satisfies Record<string, ErrorKind>
