import type { CurrentSnapshot } from '../config/snapshot.ts'
import type { MintedClaims } from '../connector/minted-token.ts'
import type { Standing } from '../revocation/standing.ts'

/** Whether a token that Deputy minted still holds: nothing that it rests on was revoked, switched off or retired. */
export const createMintedLife =
  (deps: { readonly snapshot: CurrentSnapshot; readonly standing: Standing }) =>
  ({
    tenant,
    sub,
    client_id: client,
    jti,
    anc,
    act,
    iat,
    aud,
  }: Pick<MintedClaims, 'tenant' | 'sub' | 'client_id' | 'jti' | 'anc' | 'act' | 'iat' | 'aud'>): boolean => {
    const current = deps.snapshot()
    const user = act === undefined ? undefined : sub
    if (current.tenants.get(tenant)?.enabled !== true) return false
    // One that was issued to an MCP client, for an MCP server: the server is the one that it is for.
    const called =
      act?.['client_id'] === client
        ? [...current.servers.values()].find(({ resource }) => aud.includes(resource))
        : undefined
    const server = called?.server ?? client
    const status = current.servers.get(server)?.status
    if (status !== 'approved' && status !== 'deprecated') return false
    if (deps.standing.isFrozen(tenant) || (user !== undefined && deps.standing.isDisabled(tenant, user))) return false
    if (called !== undefined)
      return deps.standing.covering({ tenant, user, server, tokens: [jti, ...anc], since: iat * 1000 }) === undefined
    const downstreams = [...current.downstreams.values()].filter(
      ({ resource }) => resource !== undefined && aud.includes(resource),
    )
    if (!downstreams.some(({ enabled }) => enabled)) return false
    return downstreams.every(
      ({ downstream }) =>
        deps.standing.covering({ tenant, user, server, downstream, tokens: [jti, ...anc], since: iat * 1000 }) ===
        undefined,
    )
  }
export type MintedLife = ReturnType<typeof createMintedLife>
