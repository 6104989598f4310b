import { type ErrorKind, kind } from './kind.ts'

/** The caller: which MCP server calls, and whether it may. */
export const workloadErrors = {
  workload_unknown: kind(
    { status: 401, oauth: 'invalid_client', category: 'workload', retryable: false },
    'No approved MCP server matches this caller.',
    'Ask an admin to run `deputy server unknown` and to register this server.',
  ),
  workload_ambiguous: kind(
    { status: 401, oauth: 'invalid_client', category: 'workload', retryable: false },
    'More than one registered MCP server matches this caller.',
    'Send client_id to say which one is calling.',
  ),
  workload_not_approved: kind(
    { status: 401, oauth: 'invalid_client', category: 'workload', retryable: false },
    'The MCP server {server} is {status}, so it gets no credentials.',
    'Ask its owner {owner} to have it approved{replacement}.',
  ),
  workload_unverified: kind(
    { status: 401, oauth: 'invalid_client', category: 'workload', retryable: false },
    'The client authentication of {server} could not be verified: {problem}.',
    'Check the credentials that {server} uses against its file in servers/.',
  ),
  workload_vanished: kind(
    { status: 401, oauth: 'invalid_client', category: 'workload', retryable: true },
    'The calling process ended before it could be identified.',
    'Call again from a process that runs until it receives the answer.',
  ),
  proof_invalid: kind(
    { status: 400, oauth: 'invalid_dpop_proof', category: 'workload', retryable: false },
    'The DPoP proof was not accepted: {problem}.',
    'Make a new proof for this request (RFC 9449 section 4.2).',
  ),
  proof_nonce_needed: kind(
    { status: 400, oauth: 'use_dpop_nonce', category: 'workload', retryable: false },
    'The DPoP proof must contain the nonce of this answer.',
    'Make a new proof with the nonce of the DPoP-Nonce header.',
  ),
  proof_missing: kind(
    { status: 400, oauth: 'invalid_dpop_proof', category: 'workload', retryable: false },
    'Tokens for {downstream} are bound to a key of {server}, and the request proves none.',
    'Send a DPoP header with the request (RFC 9449 section 5).',
  ),
  exec_not_registered: kind(
    { status: 401, oauth: 'invalid_client', category: 'workload', retryable: false },
    'The Unix user {uid} may not start the MCP server {server} with `deputy exec`.',
    'Ask an admin to add attest: [{ exec: { uid: {uid} } }] to servers/{server}.yaml, and to run deputy check.',
  ),
  exec_not_child: kind(
    { status: 403, oauth: 'access_denied', category: 'workload', retryable: false },
    'The process {pid} is not a running child of the calling process and of the same user.',
    'Start the server with `deputy exec` where the daemon can see its processes: on the same machine, not in another container, and not hidden by ProtectProc or hidepid.',
  ),
  exec_session_over: kind(
    { status: 401, oauth: 'invalid_client', category: 'workload', retryable: false },
    'The exec session of {server} is over: {problem}.',
    'Start the server again with `deputy exec --server {server}`.',
  ),
  workload_own_tenant: kind(
    { status: 403, oauth: 'unauthorized_client', category: 'workload', retryable: false },
    'The MCP server {server} acts for itself only if it is registered for exactly one enabled tenant.',
    'Name one tenant under `tenants` in the file of {server}.',
  ),
  workload_tenant: kind(
    { status: 403, oauth: 'unauthorized_client', category: 'workload', retryable: false },
    'The MCP server {server} is not registered for the tenant {tenant}.',
    'Add {tenant} to `tenants` in the file of {server}.',
  ),
} as const satisfies Record<string, ErrorKind>
