import type { MintedClaims } from '#identity/subject'
import { isEntitled, isValid, type ValidityDependencies } from '#identity/validity'

/** Whether a token that Deputy minted is still good: nothing that it relies on was revoked, disabled or taken out of the files. */
export type MintedLife = (
  claims: Pick<MintedClaims, 'tenant' | 'sub' | 'client_id' | 'jti' | 'anc' | 'act' | 'agent' | 'iat' | 'aud'>,
) => boolean

/** @returns what judges a token by its claims, which name its downstreams by their URIs alone */
export const createMintedLife =
  (deps: Omit<ValidityDependencies, 'membership'>): MintedLife =>
  ({ tenant, sub, client_id: client, jti, anc, act, agent: isAgent, iat, aud }) => {
    const snapshot = deps.snapshot()
    const { servers, downstreams } = snapshot
    const agent = isAgent === true ? sub : undefined
    const user = act === undefined || agent !== undefined ? undefined : sub
    // One that was issued to an MCP client, for an MCP server: the server is the one that it is for.
    const called =
      act?.['client_id'] === client || (agent !== undefined && act === undefined)
        ? [...servers.values()].find(({ resource }) => aud.includes(resource))?.server
        : undefined
    const server = called ?? client
    const dependsOn = { tenant, user, server, tokens: [jti, ...anc], since: iat * 1000 }
    if (called !== undefined) return isValid({ ...dependsOn, downstreams: [] }, deps)
    const ofAudiences = aud.map((uri) =>
      [...downstreams.values()].filter(({ resource }) => resource === uri).map(({ downstream }) => downstream),
    )
    // Every audience is still open to the server. Where several downstreams have one URI, any of them may be meant:
    // one that is open is enough for the files, and one that is revoked is enough for a revocation.
    const open = ofAudiences.map((ids) =>
      ids.find((id) => isEntitled(snapshot, { tenant, user, agent, server, downstreams: [id] })),
    )
    if (open.length === 0 || open.includes(undefined)) return false
    return (
      isValid({ ...dependsOn, downstreams: open.filter((id) => id !== undefined) }, deps) &&
      deps.revocationIndex.findRevocation({ ...dependsOn, downstreams: ofAudiences.flat() }) === undefined
    )
  }
