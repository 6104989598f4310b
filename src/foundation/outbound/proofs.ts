import { createLru } from '#foundation/lru'
import type { Clock, Random } from '#clock'
import { type ProofKey, type ProvedRequest, signProof } from '#foundation/crypto'

/** Servers whose nonce is remembered at most. */
const SERVERS = 1000
/** RFC 9449 section 8.1, and not longer than it has any reason to be. */
const NONCE = /^[\x21\x23-\x5B\x5D-\x7E]{1,512}$/

/** Proofs that requests of Deputy's carry (RFC 9449). A server may want a nonce of its own in them: the latest of each is kept (section 8). */
export interface Proofs {
  /** The header `DPoP` of a request. */
  prove(key: ProofKey, request: ProvedRequest): string
  /** Looks for a nonce in an answer, whatever else it says. @returns whether there is one */
  note(url: string, header: string | null | undefined): boolean
}

/** Authorization servers and services have nonces of their own even where they share an origin (section 9): each gets its own of this. */
export const createProofs = (deps: { readonly clock: Clock; readonly random: Random }): Proofs => {
  const nonces = createLru<string, string>({ max: SERVERS })
  return {
    prove: (key, request) => signProof(key, request, nonces.get(new URL(request.url).origin), deps),
    note(url, header) {
      if (header == null || !NONCE.test(header)) return false
      nonces.set(new URL(url).origin, header)
      return true
    },
  }
}
