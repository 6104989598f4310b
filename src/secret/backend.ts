import type { Secret } from '../crypto/secret.ts'

/** Where downstream secrets are kept. Every implementation runs `test/conformance/secret-backend.ts`. */
export interface SecretBackend {
  /** The current version. @throws DeputyError `secret_missing`, `secret_unreadable` */
  read(tenant: string, name: string): Promise<{ value: Secret; version: number }>
}
