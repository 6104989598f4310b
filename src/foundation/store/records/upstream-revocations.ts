/** A revocation that a provider has still to be told: durable, tried until it is done or given up. */
export interface UpstreamRevocation {
  readonly id: string
  readonly grant: string
  readonly tenant: string
  readonly provider: string
  /** Sealed with kind `upstream-revocation`. */
  readonly sealed: Uint8Array
  readonly attempts: number
  readonly nextAt: number
  readonly state: 'queued' | 'irrevocable'
  readonly problem: string | null
}

export interface UpstreamRevocationStore {
  put(entry: UpstreamRevocation): Promise<void>
  due(now: number, limit: number): Promise<UpstreamRevocation[]>
  list(): Promise<UpstreamRevocation[]>
  /** Counts one more attempt and postpones the next one, if no other node has done so since it was read. @returns whether this caller may make the attempt */
  claim(entry: UpstreamRevocation, nextAt: number): Promise<boolean>
  remove(id: string): Promise<void>
}
