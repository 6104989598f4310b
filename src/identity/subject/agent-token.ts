import type { Server, Snapshot } from '#config'
import { refuse } from '#errors'
import { agentOf } from '#identity/client'
import { invalid } from './checks.ts'
import { scopesOf } from './claims.ts'
import { factsOfMinted } from './minted-facts.ts'
import type { MintedClaims } from './minted-token.ts'
import { agentsAmong, type VerifiedSubject } from './subject.ts'

/**
 * The agent of a token that Deputy has issued: to the agent itself for this server, or to a server that the agent has called. The
 * agent's file says again, at each use, whether the agent may act here and with which scopes.
 * @throws DeputyError `subject_token_invalid`, `subject_tenant_unknown`, `subject_client_disabled`
 */
export const subjectOfAgentToken = (claims: MintedClaims, server: Server, snapshot: Snapshot): VerifiedSubject => {
  const { sub: id, tenant: named } = claims
  if (!agentsAmong(claims.anc).includes(id)) throw invalid('it does not descend from the agent that it names')
  const tenant = snapshot.tenants.get(named)
  if (tenant?.enabled !== true) throw refuse('subject_tenant_unknown')
  const found = agentOf(id, named, snapshot)
  const isItsOwn = claims.act === undefined
  const at =
    found !== undefined && Object.hasOwn(found.agent.servers, server.server)
      ? found.agent.servers[server.server]
      : undefined
  if (found === undefined || (isItsOwn && at === undefined)) throw refuse('subject_client_disabled', { client: id })
  const scopes = scopesOf({ scope: claims.scope })
  return {
    ...factsOfMinted(claims),
    tenant,
    user: undefined,
    agent: { id, owner: found.file.owner },
    client: id,
    groups: [],
    claims: { client_id: id, jti: claims.jti },
    scopes: isItsOwn ? scopes.filter((scope) => at?.scopes.includes(scope)) : scopes,
  }
}
