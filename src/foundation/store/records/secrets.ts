/** Where a version of a secret stands in a rotation. */
export type SecretStage = 'pending' | 'current' | 'previous'

export interface StoredSecret {
  readonly tenant: string
  readonly name: string
  readonly version: number
  readonly stage: SecretStage | null
  /** Sealed with kind `secret` and id `name#version`. */
  readonly sealed: Uint8Array
  readonly createdAt: number
  /** What it was staged under. */
  readonly token: string | null
}

export interface SecretStore {
  /** The version in this stage. */
  find(tenant: string, name: string, stage: SecretStage): Promise<StoredSecret | undefined>
  list(tenant?: string): Promise<StoredSecret[]>
  /** The number that the next version will have. */
  nextVersion(tenant: string, name: string): Promise<number>
  /** Adds the version as `current`; what was current becomes `previous`, older ones lose their stage. One transaction. @throws DeputyError `conflict` if the version exists */
  putCurrent(secret: Omit<StoredSecret, 'stage'>): Promise<void>
  /** Adds the version as `pending`. @throws DeputyError `conflict` if the version exists, or another is pending */
  putPending(secret: Omit<StoredSecret, 'stage'>): Promise<void>
  /**
   * The version, which is `pending` or `previous`, becomes `current`, the current one `previous`; another one that was previous is
   * removed. One transaction; nothing happens unless the current version is the expected one.
   * @param expected null: there is none
   */
  promote(tenant: string, name: string, version: number, expected: number | null): Promise<void>
  /** Removes the version if it is in this stage. */
  removeVersion(tenant: string, name: string, version: number, stage: SecretStage): Promise<void>
  remove(filter: { tenant: string; name?: string }): Promise<number>
  /**
   * Changes with each write, before it and after it. Absent where another process may write. A key rotation, which seals
   * the same values again, does not count.
   */
  readonly writes?: () => number
}
