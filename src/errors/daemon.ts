import { type ErrorKind, kind } from './kind.ts'

/** The daemon itself: secrets, keys, store, audit log, revocation and configuration. */
export const daemonErrors = {
  secret_malformed: kind(
    { status: 502, oauth: 'server_error', category: 'secret', retryable: false },
    'The secret {secret} of the tenant {tenant} has the wrong form for {downstream}: {problem}.',
    'Correct it in its backend; for the embedded one run: deputy secret set {secret} --tenant {tenant}',
  ),
  secret_missing: kind(
    { status: 503, oauth: 'server_error', category: 'secret', retryable: false },
    'The secret {secret} of the tenant {tenant} does not exist.',
    'Store it in its backend; for the embedded one run: deputy secret set {secret} --tenant {tenant}',
  ),
  rotation_in_progress: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'secret', retryable: true },
    'The secret {secret} of the tenant {tenant} is being rotated, and its target accepts neither the old nor the new secret yet.',
    'Try again in {seconds} seconds; `deputy rotation status` shows the progress.',
  ),
  rotation_not_possible: kind(
    { status: 409, oauth: 'invalid_request', category: 'secret', retryable: false },
    'The command is not possible for this rotation: {problem}.',
    'Run `deputy rotation status` to see its state.',
  ),
  secret_backend_unavailable: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'secret', retryable: true },
    'The secret backend {backend} gave no valid answer: {problem}.',
    'Try again; `deputy status` shows the state of each backend.',
  ),
  secret_backend_refused: kind(
    { status: 502, oauth: 'server_error', category: 'secret', retryable: false },
    'The secret backend {backend} refused: {problem}.',
    'Check its settings under secrets.backends in deputy.yaml, and the rights that its policy gives Deputy.',
  ),
  wrapping_violated: kind(
    { status: 502, oauth: 'server_error', category: 'secret', retryable: false },
    'A wrapping token of the secret backend {backend} cannot be trusted: {problem}.',
    'Find out who unwrapped it, revoke its content, and create a new one.',
  ),
  key_service_unavailable: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'secret', retryable: true },
    'The key service gave no valid answer: {problem}. No data is lost.',
    'Try again; `deputy status` shows the state of the key service.',
  ),
  key_service_refused: kind(
    { status: 503, oauth: 'server_error', category: 'secret', retryable: false },
    'The key service refused: {problem}. No data is lost.',
    'Check `kek` in deputy.yaml, and the rights that the key service gives Deputy; docs/vaults.md lists them.',
  ),
  data_key_unavailable: kind(
    { status: 503, oauth: 'server_error', category: 'secret', retryable: false },
    'The data key of the tenant {tenant} cannot be decrypted: {problem}. The data that it encrypts still exists.',
    'Ask an admin: `deputy explain` names the file or key.',
  ),
  secret_unreadable: kind(
    { status: 503, oauth: 'server_error', category: 'secret', retryable: false },
    'A stored secret of the tenant {tenant} can no longer be read.',
    'If the tenant was destroyed, this is final; otherwise check the folder of data keys (`keys`), and `kek` and `kek_earlier` in deputy.yaml.',
  ),
  revoked: kind(
    { status: 400, oauth: 'invalid_request', category: 'revocation', retryable: false },
    'A revocation ({scope}) at {revoked_at} covers this request.',
    'Sign the user in again, or ask the admin who revoked it. Tokens that were issued in the first 30 seconds after a revocation count as issued before it.',
  ),
  audit_unavailable: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'audit', retryable: true },
    'The audit sink {sink} did not confirm the record ({problem}), so no credential was issued.',
    'Repair the sink; the log and `deputy status` show its state.',
  ),
  order_unrecorded: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'audit', retryable: false },
    'The order was carried out and holds, but the audit sink {sink} did not confirm its record ({problem}).',
    'Repair the sink; the log and `deputy status` show its state. The order need not be given again.',
  ),
  order_not_begun: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'audit', retryable: true },
    'The order was not carried out, because the audit sink {sink} did not confirm its record ({problem}).',
    'Repair the sink; the log and `deputy status` show its state. Then give the order again.',
  ),
  store_unavailable: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'store', retryable: true },
    'The store did not answer: {problem}.',
    'Try again; `deputy status` shows its state.',
  ),
  backup_unusable: kind(
    { status: 500, oauth: 'server_error', category: 'store', retryable: false },
    'The backup {file} cannot be used: {problem}.',
    '{fix}',
  ),
  restore_refused: kind(
    { status: 500, oauth: 'server_error', category: 'store', retryable: false },
    'Nothing was restored: {problem}.',
    '{fix}',
  ),
  membership_lost: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'store', retryable: true },
    'The node {node} has lost its cluster membership and cannot confirm that every revocation was applied: {problem}.',
    'Try again; `deputy status` shows the state of the node.',
  ),
  node_replaced: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'store', retryable: true },
    'Another daemon has started as the node {node} on this store. This daemon stops, because two daemons must not write one audit chain.',
    'Give each daemon a name of its own under `node` in deputy.yaml.',
  ),
  conflict: kind(
    { status: 409, oauth: 'invalid_request', category: 'store', retryable: true },
    'A concurrent request changed the {what}.',
    'Read the current state and repeat the change.',
  ),
  config_invalid: kind(
    { status: 500, oauth: 'server_error', category: 'config', retryable: false },
    'The configuration is not valid: {problem}.',
    'Run `deputy check` to see every problem with its line.',
  ),
  start_failed: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'internal', retryable: true },
    'Deputy cannot start: {problem}.',
    '{fix}',
  ),
  draining: kind(
    { status: 503, oauth: 'temporarily_unavailable', category: 'internal', retryable: true },
    'Deputy is shutting down.',
    'Try again in {seconds} seconds.',
  ),
  internal: kind(
    { status: 500, oauth: 'server_error', category: 'internal', retryable: true },
    'Something failed inside Deputy.',
    'Look up the correlation id: deputy explain {correlation_id}',
  ),
} as const satisfies Record<string, ErrorKind>
