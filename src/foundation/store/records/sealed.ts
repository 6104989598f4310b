import type { RecordName } from '#foundation/crypto'

/** A ciphertext in the store, whatever kind of record it belongs to. */
export interface SealedRecord {
  readonly table: string
  readonly key: readonly (string | number)[]
  readonly name: RecordName
  readonly sealed: Uint8Array
}

/** Every ciphertext of a tenant, for what replaces the key that they are sealed under. */
export interface SealedStore {
  /** Records that are sealed under one of these keys. @param keys ids in hex. @returns at most `limit`; none when there are none */
  under(tenant: string, keys: readonly string[], limit: number): Promise<SealedRecord[]>
  /** Whether the tenant has grants or secrets, whatever they are sealed under: it has had a data key then. */
  has(tenant: string): Promise<boolean>
  /** Writes only if the record still is what was read, and no claim on it runs. @returns whether it was written */
  replace(record: SealedRecord, sealed: Uint8Array, now: number): Promise<boolean>
}
