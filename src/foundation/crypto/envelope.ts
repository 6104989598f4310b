import type { Secret } from './secret.ts'

/** What a ciphertext belongs to. All three are bound to it as additional data, so that it cannot be moved. */
export interface RecordName {
  readonly tenant: string
  /** The kind of record, for example `grant`. */
  readonly kind: string
  readonly id: string
}

/**
 * Envelope encryption: every tenant has its own data-encryption key, kept wrapped by the key-encryption key.
 * @see docs/decisions for the format and for what destroying a key means.
 */
export interface Envelope {
  /** Encrypts under the tenant's data key, which is made when the tenant has none yet. */
  seal(name: RecordName, plaintext: Secret): Promise<Uint8Array>
  /** @throws DeputyError `secret_unreadable` when the key is gone, or the ciphertext is of another tenant or record. */
  open(name: RecordName, sealed: Uint8Array): Promise<Secret>
  /** Destroys the tenant's data key: nothing sealed for the tenant can be opened again, in backups either. Idempotent. */
  destroy(tenant: string): Promise<void>
}

/** The tenant under which Deputy seals what belongs to no tenant, such as its signing keys. No tenant can have this id. */
export const OWN_TENANT = '_deputy'
