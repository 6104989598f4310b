import type { Downstream, Server } from '#config'
import { refuse } from '#errors'
import type { ProofBinding } from '#oauth'
import { idsOf, type Target } from './target.ts'

type ProvedKey = { readonly jkt: string }

/** What one downstream demands of its tokens; undefined: it takes them bound or not. @throws DeputyError `proof_missing` */
const demandOf = (
  downstream: Downstream,
  { server, certificate }: Server,
  proved: ProvedKey | undefined,
): ProofBinding | undefined => {
  if (downstream.credential !== 'minted' || downstream.bound === 'any') return undefined
  if (downstream.bound === 'mtls' && certificate !== undefined)
    return { 'x5t#S256': Buffer.from(certificate, 'hex').toString('base64url') }
  if (proved === undefined) throw refuse('proof_missing', { downstream: downstream.downstream, server })
  return proved
}

/**
 * The key that a minted token is bound to. A joint token is bound as each of its downstreams demands; where they demand
 * different keys there is none.
 * @throws DeputyError `proof_missing`, `targets_incompatible`, `malformed_request` for what cannot be bound
 */
export const confirmationFor = (
  target: Target,
  server: Server,
  proved: ProvedKey | undefined,
): ProofBinding | undefined => {
  if (target.kind !== 'minted') {
    if (proved !== undefined)
      throw refuse('malformed_request', {
        problem: `a DPoP proof binds tokens that Deputy mints, and ${idsOf(target).join(' and ')} takes another kind`,
      })
    return undefined
  }
  const demands = target.downstreams.flatMap((downstream) => demandOf(downstream, server, proved) ?? [])
  const [demand] = demands
  if (demands.some((other) => JSON.stringify(other) !== JSON.stringify(demand)))
    throw refuse('targets_incompatible', { targets: idsOf(target).join(' and ') })
  return demand ?? proved
}
