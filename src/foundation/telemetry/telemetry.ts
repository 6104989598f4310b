import type { ErrorCode } from '#errors'

/** What the rooms report about themselves. Labels are bounded values: never a user, a token or a URL. */
export interface Telemetry {
  /** One token request, answered. `seconds` from its first byte to the answer. */
  exchange(fact: {
    outcome: 'issued' | 'refused'
    error?: ErrorCode
    credential?: string
    tenant?: string
    seconds: number
  }): void
  attestation(fact: { method: string; outcome: 'verified' | 'refused'; error?: ErrorCode }): void
  subject(fact: { how: string; outcome: 'verified' | 'refused'; error?: ErrorCode }): void
  decision(fact: { allowed: boolean; credential: string }): void
  refresh(fact: { provider: string; outcome: 'done' | 'joined' | 'failed' | 'uncertain' | 'ended' }): void
  cache(fact: { outcome: 'hit' | 'miss' }): void
  /** A request to an identity provider or OAuth service. */
  provider(fact: { provider: string; operation: string; outcome: 'ok' | 'error'; seconds: number }): void
  /** `refused`: the receiver will not keep these records, although it works. */
  audit(fact: { sink: string; outcome: 'durable' | 'failed' | 'refused'; records: number; seconds: number }): void
  revocation(fact: { scope: string }): void
  /** An attempt to end a grant at its provider. `irrevocable`: it was the last one, and a person must end the grant by hand. */
  upstreamRevocation(fact: { provider: string; outcome: 'done' | 'not_offered' | 'queued' | 'irrevocable' }): void
  /** Runs `work` within a span that is the child of the active one; a thrown error is put on the span. */
  span<T>(
    name: string,
    attributes: Readonly<Record<string, string | number | boolean>>,
    work: () => Promise<T>,
  ): Promise<T>
}

/** Reports nothing; for tests and for tools that build single rooms. */
export const noTelemetry: Telemetry = {
  exchange() {},
  attestation() {},
  subject() {},
  decision() {},
  refresh() {},
  cache() {},
  provider() {},
  audit() {},
  revocation() {},
  upstreamRevocation() {},
  span: (_name, _attributes, work) => work(),
}
