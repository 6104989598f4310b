/**
 * Backends of secrets (embedded, Vault, AWS) and leases. Connectors and rotators read and stage versions here.
 * `vault/` and `aws/` are behind the interfaces of `backend.ts`.
 */
export { CREDENTIALS_ERROR, credentialsWithin } from './aws/credentials.ts'
export {
  type DynamicSecrets,
  type IssuedTokens,
  type LeasedSecrets,
  type LeaseSource,
  type MadeSecret,
  present,
  type SecretVersion,
  type StagedSecrets,
} from './backend.ts'
export { loadBucket } from './load-bucket.ts'
export { createSecretBackends, openVault, type SecretBackends, type VaultSurroundings } from './backends.ts'
export { bindLeases } from './bind-leases.ts'
export { createEmbeddedSecrets, EMBEDDED_BACKEND, type EmbeddedSecrets } from './embedded.ts'
export { loadKms, type WatchedKey, watchKeyService } from './key-service.ts'
export { type LeaseReceipt, Leases } from './leases.ts'
export { isFresh, isSameSecret } from './meaning.ts'
export { createSecretResolver, readLocalSecret, type ReadSecret, type ResolveSecret } from './reference.ts'
export { transitKey } from './vault/transit.ts'
export { createSecretVersions, type SecretVersions } from './versions.ts'
