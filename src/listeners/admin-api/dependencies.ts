import type { Request } from 'express'
import type { CurrentSnapshot } from '#config'
import type { EmbeddedSecrets, Leases } from '#credentials/secret'
import type { NamedCheck, Revoker } from '#flows/revocation'
import type { RotationService } from '#flows/rotation'
import type { AuditLog, HeadKeeper } from '#foundation/audit'
import type { Membership } from '#foundation/cluster'
import type { Fingerprint } from '#foundation/crypto'
import type { RotatedSecret, Store } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { Policy } from '#identity/policy'
import type { ClientRegistry } from '#identity/client'
import type { UserDirectory } from '#identity/subject'
import type { RevocationIndex } from '#identity/validity'
import type { RotatedKeys } from './contract.ts'

export interface AdminDependencies {
  readonly snapshot: CurrentSnapshot
  readonly store: Store
  readonly users: UserDirectory
  readonly clientRegistry: Pick<ClientRegistry, 'find' | 'list' | 'approve' | 'remove'>
  readonly revocationIndex: RevocationIndex
  readonly membership: Pick<Membership, 'record' | 'confirm'>
  readonly secrets: EmbeddedSecrets
  /** Notifies the exec sessions of programs that have a secret that there is a newer version. */
  readonly secretChanged: (secret: RotatedSecret) => void
  readonly leases: Pick<Leases, 'list'>
  readonly revoker: Revoker
  readonly rotation: RotationService
  readonly policy: () => Policy
  readonly audit: AuditLog
  readonly fingerprint: Fingerprint
  readonly verifyAudit: () => Promise<object>
  /** Of one node, or of all. */
  readonly exportAudit: (node?: string) => AsyncIterable<string | Uint8Array>
  /** Undefined where the audit log is not in files. */
  readonly auditRetention:
    | {
        seal(): Promise<object>
        prune(order: {
          readonly age?: number | undefined
          readonly record: (detail: object) => Promise<void>
        }): Promise<object>
      }
    | undefined
  readonly auditHeads: Pick<HeadKeeper, 'missing' | 'acknowledge'>
  readonly status: () => Promise<object>
  readonly reload: () => Promise<object>
  readonly rotateKeys: (keys: RotatedKeys) => Promise<object>
  /** The caller of a request as the kernel names it, for the audit record. */
  readonly by: (request: Request) => string
  readonly now: () => number
  readonly correlationId: () => string
  readonly logger: Logger
}

/** What the endpoints share. */
export interface AdminContext extends AdminDependencies {
  /** Holds the names in an order to what exists. */
  readonly check: NamedCheck
}
