import type { Random } from '#clock'
import { type Server, servesTenant } from '#config'
import { type DeputyError, refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import type { Rates } from '#foundation/cache'
import type { SigningKeys } from '#foundation/keys'
import { type AgentClient, agentOf } from '#identity/client'
import { agentAncestor } from '#identity/subject'
import {
  assertStillValid,
  assertThawed,
  type CredentialDependencies,
  type ValidityDependencies,
} from '#identity/validity'
import { type CheckProof, isInUse } from '#identity/workload'
import { signAccessToken } from './access-token.ts'
import type { IssuedToken } from './issue.ts'
import { type AgentEvidence, type AgentProofDependencies, type ProvedAgent, proveAgent } from './verify-agent.ts'
import { withAudit } from './with-audit.ts'

/** A request of an agent at the public token endpoint. */
export interface AgentRequest {
  readonly evidence: AgentEvidence
  /** RFC 8707: the server. Undefined: the one of an agent that has one. */
  readonly resource?: string
  readonly scopes?: readonly string[]
  /** A DPoP proof (RFC 9449 section 5): the token is bound to its key. */
  readonly proof?: string
  readonly correlationId: string
}

export interface AgentDependencies extends AgentProofDependencies, ValidityDependencies {
  readonly keys: SigningKeys
  readonly rates: Pick<Rates, 'admit' | 'isRepeated'>
  readonly checkProof: CheckProof
  readonly audit: AuditLog
  readonly random: Random
}

/** A token, with what it depends on and what its record says. */
interface Issued {
  readonly issued: IssuedToken
  readonly server: Server
  readonly scopes: readonly string[]
  readonly tokenId: string
  readonly dependsOn: CredentialDependencies
  readonly generation: number
}

/** The server that is asked for, among those of the agent. @throws DeputyError `agent_target_unknown` */
const serverFor = (
  { snapshot }: Pick<AgentDependencies, 'snapshot'>,
  { file, agent }: AgentClient,
  resource: string | undefined,
): Server => {
  const servers = Object.keys(agent.servers).flatMap((id) => {
    const server = snapshot().servers.get(id)
    return server !== undefined && isInUse(server) && servesTenant(server.tenants, agent.tenant) ? [server] : []
  })
  const [server, another] = resource === undefined ? servers : servers.filter((each) => each.resource === resource)
  if (server === undefined || another !== undefined)
    throw refuse('agent_target_unknown', { agent: file.client, resource: resource?.slice(0, 200) ?? 'no resource' })
  return server
}

/** Those asked for that are for the agent; all of them where none are asked for. @throws DeputyError `agent_scope_unavailable` */
const scopesFor = (
  { file, agent }: AgentClient,
  { server }: Server,
  asked: readonly string[] | undefined,
): readonly string[] => {
  const { scopes } = agent.servers[server]!
  const within = scopes.filter((scope) => asked?.includes(scope) ?? true)
  if (within.length === 0 && asked !== undefined)
    throw refuse('agent_scope_unavailable', { scopes: asked.join(' '), agent: file.client, server })
  return within
}

/** The agent is the subject of its token and its client; the token has no actor. */
const issueFor = (
  deps: AgentDependencies,
  { client: { file, agent }, token: other, since }: ProvedAgent,
  {
    server,
    scopes,
    proved,
  }: Pick<Issued, 'server' | 'scopes'> & { readonly proved: { readonly jkt: string } | undefined },
): Omit<Issued, 'generation'> => {
  const { client: id } = file
  const { tenant } = agent
  const ancestors = [agentAncestor(id), ...(other === undefined ? [] : [other.id])]
  const claims = { agent: true, ...(proved === undefined ? {} : { cnf: proved }) }
  const { tokenId, issued } = signAccessToken(deps, {
    subject: id,
    client: id,
    tenant,
    server,
    scopes,
    ancestors,
    claims,
  })
  return {
    server,
    scopes,
    tokenId,
    dependsOn: { tenant, server: server.server, downstreams: [], tokens: [tokenId, ...ancestors], since },
    issued: { ...issued, tokenType: proved === undefined ? 'Bearer' : 'DPoP' },
  }
}

/** The steps of a request whose agent has proved who it is. @param note gets the server as soon as it is known */
const issue = async (
  deps: AgentDependencies,
  request: AgentRequest,
  agent: ProvedAgent,
  note: (server: string) => void,
): Promise<Issued> => {
  const { generation } = deps.snapshot()
  const { client } = agent
  const { tenant } = client.agent
  await deps.rates.admit('client', [client.file.client])
  assertThawed(tenant, deps)
  const server = serverFor(deps, client, request.resource)
  note(server.server)
  await deps.rates.admit('server', [server.server])
  await deps.rates.admit('tenant', [tenant])
  const scopes = scopesFor(client, server, request.scopes)
  const proved = request.proof === undefined ? undefined : await deps.checkProof(request.proof)
  const issued = { ...issueFor(deps, agent, { server, scopes, proved }), generation }
  assertStillValid(issued.dependsOn, deps, generation)
  return issued
}

/** Whether the files still let the agent use the server. @throws DeputyError `subject_client_disabled` */
const assertStillAgent = ({ snapshot }: AgentDependencies, id: string, { dependsOn }: Issued): void => {
  const { tenant, server } = dependsOn
  const found = agentOf(id, tenant, snapshot())
  if (found === undefined || !Object.hasOwn(found.agent.servers, server))
    throw refuse('subject_client_disabled', { client: id })
}

/**
 * Tokens for agents (decision 0025): a program of a file in clients/ acts for itself at the servers that the file names. No refresh
 * token comes with them: the agent proves again who it is. A revocation of the agent (scope client), of the server, of the tenant, or of the
 * issuer by whose token it has proved itself voids the token.
 */
export const createAgentTokens =
  (deps: AgentDependencies) =>
  /** @throws DeputyError `client_unverified`, `agent_token_invalid`, and those that refuse the agent */
  async (request: AgentRequest): Promise<IssuedToken> => {
    deps.membership.assertHeld()
    // A caller that proves nothing leaves no record: the endpoint is public, and such callers could fill the log.
    const agent = await proveAgent(deps, request.evidence)
    const { file, agent: facts } = agent.client
    let server: string | undefined
    const record = () => ({
      id: request.correlationId,
      event: 'token.agent' as const,
      tenant: facts.tenant,
      ...(server === undefined ? {} : { server }),
    })
    const detail = { client: file.client, how: agent.how, proof: agent.token }
    const { issued } = await withAudit(deps, {
      steps: () =>
        issue(deps, request, agent, (named) => {
          server = named
        }),
      issued: ({ scopes, tokenId }) => ({
        ...record(),
        outcome: 'issued',
        detail: { ...detail, scopes, token: tokenId },
      }),
      refused: ({ code, message, next }: DeputyError) => ({
        ...record(),
        outcome: 'refused',
        detail: { ...detail, error: { code, message, next } },
      }),
      assertValid: (proved) => {
        assertStillValid(proved.dependsOn, deps, proved.generation)
        assertStillAgent(deps, file.client, proved)
      },
    })
    return issued
  }
export type IssueAgentToken = ReturnType<typeof createAgentTokens>
