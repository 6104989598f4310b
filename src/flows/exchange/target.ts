import type { CredentialKind, Downstream, Server, Snapshot } from '#config'
import { kinds } from '#credentials/connector'
import { refuse } from '#errors'
import type { VerifiedSubject } from '#identity/subject'
import { usableFor } from '#identity/validity'
import type { TokenRequest } from './request.ts'

/** What a request is for: one downstream, or several that one minted token can serve together. */
export interface Target {
  /** All of them; every decision is made for each. */
  readonly downstreams: readonly [Downstream, ...Downstream[]]
  /** The one kind of credential that all of them take. */
  readonly kind: CredentialKind
  /** Audiences of what is issued: the URI of each downstream. */
  readonly audiences: readonly string[]
  /** The registration of the server: for what it may ask at each. */
  readonly uses: Server['downstreams']
}

/**
 * Credentials that belong to a user, or that a service cannot tell from a server's own, are not for agents (decision 0025).
 * @throws DeputyError `agent_not_served`
 */
export const assertForAgent = (
  { kind, downstreams }: Target,
  subject: Pick<VerifiedSubject, 'agent'> | undefined,
): void => {
  if (subject?.agent === undefined || kinds[kind].forAgents === true) return
  throw refuse('agent_not_served', {
    agent: subject.agent.id,
    downstream: downstreams.map(({ downstream }) => downstream).join(' and '),
    credential: kind,
  })
}

/** The ids of a target's downstreams. */
export const idsOf = ({ downstreams }: Pick<Target, 'downstreams'>): string[] =>
  downstreams.map(({ downstream }) => downstream)

/** For which server, of which tenant, a target is looked up. */
export interface TargetScope {
  readonly server: Server
  /** The registration of the server: for what it may ask at each. */
  readonly uses: Server['downstreams']
  readonly tenant: string
  readonly snapshot: Snapshot
}

/** The downstreams that a request names by audience, by resource or, through the proxy, by host. @throws DeputyError `target_unknown`, `injection_host_unknown` */
const namedBy = (wish: TokenRequest, { server, uses, tenant, snapshot }: TargetScope): Map<string, Downstream> => {
  const visible = (id: string): Downstream | undefined => usableFor(id, uses, tenant, snapshot)
  const named = new Map<string, Downstream>()
  for (const audience of wish.audiences) {
    const found = visible(audience)
    if (found === undefined) throw refuse('target_unknown', { target: audience, server: server.server })
    named.set(found.downstream, found)
  }
  for (const resource of wish.resources) {
    const found = Object.keys(uses)
      .map(visible)
      .filter((downstream) => downstream?.resource === resource)
    const already = found.find((downstream) => downstream !== undefined && named.has(downstream.downstream))
    const [only] = found
    if (already !== undefined) continue
    if (only === undefined || found.length > 1)
      throw refuse('target_unknown', { target: resource, server: server.server })
    named.set(only.downstream, only)
  }
  const host = named.size === 0 ? wish.injection?.origin : undefined
  if (host !== undefined) {
    for (const found of Object.keys(uses).map(visible))
      if (found?.inject?.hosts.includes(host) === true) named.set(found.downstream, found)
    if (named.size === 0) throw refuse('injection_host_unknown', { host, server: server.server })
  }
  return named
}

/**
 * Finds the downstreams that a request names, among those that the server is registered for in this tenant.
 * A name that exists but is not registered answers exactly like one that does not exist.
 * A request through the proxy may name its host instead.
 * @throws DeputyError `target_missing`, `target_unknown`, `targets_incompatible`, `unsupported_token_type` (RFC 8693 section 2.2.2), `injection_host_unknown`
 */
export const resolveTarget = (wish: TokenRequest, scope: TargetScope): Target => {
  const named = namedBy(wish, scope)
  const [downstream, ...others] = named.values()
  if (downstream === undefined) throw refuse('target_missing')
  const kind = downstream.credential
  if (
    others.length > 0 &&
    (wish.injection !== undefined || !kinds[kind].joint || others.some(({ credential }) => credential !== kind))
  ) {
    throw refuse('targets_incompatible', { targets: [...named.keys()].join(' and ') })
  }
  if (wish.requestedTokenType !== undefined && !kinds[kind].issues.includes(wish.requestedTokenType)) {
    throw refuse('unsupported_token_type', { token_type: wish.requestedTokenType, parameter: 'requested_token_type' })
  }
  const downstreams = [downstream, ...others] as const
  return {
    downstreams,
    kind,
    audiences: [...new Set(downstreams.flatMap(({ resource }) => resource ?? []))],
    uses: scope.uses,
  }
}
