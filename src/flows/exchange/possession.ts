import { type DeputyError, refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import type { CheckResourceProof } from '#identity/workload'
import type { ProofBinding } from '#oauth'
import { INACTIVE, type Introspection } from './introspection.ts'

/** How a client sent its token to an MCP server (RFC 9449 section 7.1), as that server reports it. */
export interface Presentation {
  /** The scheme of the Authorization header. */
  readonly scheme: 'Bearer' | 'DPoP'
  /** The one DPoP header. */
  readonly proof?: string
  readonly method: string
  /** Under which URLs the server may have been called. */
  readonly urls: readonly string[]
}

const invalid = (problem: string): DeputyError => refuse('subject_token_invalid', { problem })

/**
 * Whether the sender of a token has the key that the token is bound to. A bound token does not count as a Bearer token
 * (RFC 9449 section 7.2), and an unbound one not as a DPoP token. Bindings to a certificate remain the server's to check.
 * @param presented undefined: the server has checked it, as its file says
 * @throws DeputyError `subject_token_invalid`, `proof_invalid`, `proof_nonce_needed`
 */
export const assertPossessed = async (
  check: CheckResourceProof,
  presented: Presentation | undefined,
  token: Secret,
  confirmation: ProofBinding | undefined,
): Promise<void> => {
  if (presented === undefined) return
  const { scheme, proof, method, urls } = presented
  const bound = confirmation !== undefined && 'jkt' in confirmation ? confirmation.jkt : undefined
  if (bound === undefined) {
    if (scheme === 'DPoP') throw invalid('it is not bound to a key, and came under the scheme DPoP')
    return
  }
  if (scheme !== 'DPoP') throw invalid('it is bound to a key, and came as a Bearer token without a proof')
  if (proof === undefined) throw refuse('proof_invalid', { problem: 'the request has no DPoP header' })
  const { jkt } = await check({ proof, method, urls, token })
  if (jkt !== bound) throw invalid('the proof is of another key than the one that it is bound to')
}

/** The answer for a token that does not count. Only the client can cure a missing or a bad proof, so it learns of those. */
export const inactiveBecause = ({ code, kind, facts }: DeputyError): Introspection => {
  if (code !== 'proof_invalid' && code !== 'proof_nonce_needed') return INACTIVE
  return {
    ...INACTIVE,
    error: kind.oauth,
    ...(facts['nonce'] === undefined ? {} : { dpop_nonce: String(facts['nonce']) }),
  }
}
