import { refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import type { SecretStage } from '#foundation/store'

/** One version of a secret, under the name that its backend gave it. */
export interface SecretVersion {
  readonly value: Secret
  readonly version: string
  /** What it was staged under; null where that is not known. */
  readonly token: string | null
  /** When it was read at its source (ms since the epoch), where that is not now. */
  readonly readAt?: number
}

/** Where downstream secrets are kept. Every implementation runs `test/conformance/secret-backend.ts`. */
export interface SecretBackend {
  /** The current version. @throws DeputyError `secret_missing`, `secret_unreadable`, `secret_backend_unavailable` */
  read(tenant: string, name: string): Promise<SecretVersion>
}

/**
 * Capability: versions in stages, which is what a rotation needs. Every step may be repeated, and changes nothing then:
 * a process that was killed in between repeats it. A reader of `current` never sees the pending version.
 */
export interface StagedSecrets extends SecretBackend {
  /** Undefined where no version is in that stage. */
  find(tenant: string, name: string, stage: SecretStage): Promise<SecretVersion | undefined>
  /**
   * Keeps a version as pending, durable when it resolves. Under a token that it has already, it is the version of then that
   * counts, with its value.
   * @param token 32 to 64 characters of [A-Za-z0-9-], one for each rotation
   * @throws DeputyError `conflict` when another token's version is pending
   */
  stage(tenant: string, name: string, value: Secret, token: string): Promise<SecretVersion>
  /**
   * Makes a version current, and the one that it replaces previous: one that is pending, or, on the way back, the one that was
   * replaced before. Compare and set: it changes nothing unless the current version is the one that the caller has read.
   * @param next what becomes current
   * @param expected what is current now; undefined: nothing is
   * @throws DeputyError `conflict` when another version is current, or `next` is no version of the secret
   */
  promote(tenant: string, name: string, next: SecretVersion, expected: SecretVersion | undefined): Promise<void>
  /** A version that was replaced can be read no more. One that is current, or not found, stays as it is. */
  retire(tenant: string, name: string, old: SecretVersion): Promise<void>
  /**
   * Before a rotation: no other program rotates the secret, and no version is pending. Absent where staging says so.
   * @throws DeputyError `rotation_not_possible`
   */
  expectRotatable?(tenant: string, name: string): Promise<void>
  /** The pending version can be read no more. */
  discard(tenant: string, name: string, version: string): Promise<void>
}

/** What a lease ends with, whatever it was given for. */
export interface LeaseParent {
  /** Its public name at the backend. */
  readonly name: string
  /** Until when it lives at least (ms since the epoch). */
  readonly endsAt: number
}

/** A credential that was made for one owner. */
export interface MadeSecret {
  readonly value: Secret
  /** What the backend calls its lease. */
  readonly lease: string
  /** How long it is given for (ms). */
  readonly duration: number
  readonly renewable: boolean
  readonly parent?: LeaseParent
}

/** For whom it is made, where that is written into it. */
export interface LeaseRequest {
  /** Common name of a certificate, or name of a session. */
  readonly name: string
  readonly uri?: string | undefined
  /** ms; undefined: as the role says */
  readonly duration: number | undefined
}

/** Owner and sealed value of a lease, for backends that end a lease by its value. */
export interface LeaseContent {
  readonly tenant: string
  readonly downstream: string
  open(): Promise<Secret>
}

/** What a renewal has given. */
export interface RenewedLease {
  /** How long it lives at least (ms), which may be less than what was asked for. */
  readonly duration: number
  /** Its longest life is near: another renewal gives nothing more. */
  readonly isLast: boolean
}

/** Renews and ends leases at the backend that gave them. */
export interface LeaseSource {
  /**
   * Asks for another time of `duration` (ms) from now. @param parent the name of what it ends with
   * @returns undefined when it has ended
   */
  renew(lease: string, duration: number, parent: string | null): Promise<RenewedLease | undefined>
  /** Ended when it resolves. What has ended already stays so. */
  end(lease: string, content: LeaseContent): Promise<void>
  /** It is ended by its credential, and cannot be ended when that cannot be opened. */
  readonly endsByCredential?: true
  /** Its leases end with what asked for them: one whose parent is not known is not handed out. */
  readonly hasParents?: true
  /** It carries its own end, so that nothing has to be done about it then. */
  readonly endsByItself?: true
}

/** Capability: what is made for one owner when it is asked for, and ends with its lease. */
export interface LeasedSecrets extends LeaseSource {
  /** @param role of the engine. @param wish names the owner, where the credential contains it. @throws DeputyError `secret_backend_unavailable`, `secret_backend_refused` */
  make(role: string, wish?: LeaseRequest): Promise<MadeSecret>
}

/** Capability: access tokens that are made when they are asked for; they have no lease, and cannot be ended. */
export interface IssuedTokens {
  /** @returns the token and when it ends (ms since the epoch). @throws DeputyError `secret_backend_unavailable`, `secret_backend_refused` */
  issue(role: string): Promise<{ readonly value: Secret; readonly expiresAt: number }>
}

/** Capability: logins that are made when they are asked for, and those that the backend rotates. */
export interface DynamicSecrets extends LeasedSecrets {
  /** A login that the backend rotates by itself, with how long it is the right one (ms). */
  readStatic(role: string): Promise<{ readonly value: Secret; readonly remaining: number }>
  /** Has the backend rotate that login now. */
  rotateStatic(role: string): Promise<void>
}

/** What a backend can do, if it can. Settings of backends are read at start, and other files while the daemon runs. @throws DeputyError `secret_backend_unavailable` */
export const present = <T>(found: T | undefined, backend: string): T => {
  if (found === undefined)
    throw refuse('secret_backend_unavailable', {
      backend,
      problem: 'it makes no credentials, or was not named in deputy.yaml when the daemon was started',
    })
  return found
}
