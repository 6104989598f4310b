import type { RotatedSecret } from './rotations.ts'

/** Who was handed a version of a secret that rotates, and may use it until then (ms since the epoch). */
export interface SecretHolder extends RotatedSecret {
  /** The server, the process and the principal, as one name: a newer version in its hands takes the place of the older one. */
  readonly holder: string
  readonly server: string
  readonly version: string
  readonly until: number
}

export interface SecretHolderStore {
  put(holder: SecretHolder): Promise<void>
  /** Those whose time is not over at `now`. */
  list(secret: RotatedSecret, now: number): Promise<SecretHolder[]>
  /** The holder of this name has nothing any more. */
  forget(holder: string): Promise<void>
  sweep(now: number): Promise<number>
}
