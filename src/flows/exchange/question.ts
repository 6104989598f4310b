import type { Downstream, Server } from '#config'
import { knownBy } from '#identity/client'
import { refuse } from '#errors'
import type { OperationFacts, PolicyQuestion } from '#identity/policy'

/** What the exchange and `deputy policy explain` both ask of policy. */
export interface Asking {
  readonly server: Server
  readonly tenant: string
  /** The user or the agent for whom the server acts; absent: it asks for itself. */
  readonly subject:
    | (Pick<Extract<PolicyQuestion['principal'], { kind: 'user' }>, 'groups' | 'omitted' | 'claims'> & {
        /** Undefined: it is an agent. */
        readonly user: string | undefined
        readonly agent?: { readonly id: string; readonly owner: string } | undefined
        readonly acr?: string | undefined
        /** The MCP client that the user has signed in at. */
        readonly client?: string | undefined
      })
    | undefined
  readonly downstream: Downstream
  readonly scopes: readonly string[]
  readonly tool: string | undefined
  /** Where the tool is an operation of an API that Deputy serves. */
  readonly operation: OperationFacts | undefined
  readonly environment: string
  /** What of the downstream's credentials can be narrowed (`narrowingOf`). */
  readonly narrows: readonly string[]
  /** ms since the epoch. */
  readonly now: number
}

const principalOf = (tenant: string, subject: Asking['subject']): PolicyQuestion['principal'] => {
  if (subject === undefined) return { kind: 'workload', tenant }
  const { user, agent, groups, claims, omitted } = subject
  if (agent !== undefined) return { kind: 'agent', tenant, agent: agent.id, owner: agent.owner }
  if (user === undefined) throw refuse('subject_token_invalid', { problem: 'it names neither a user nor an agent' })
  return {
    kind: 'user',
    tenant,
    user,
    groups,
    claims,
    ...(omitted === undefined ? {} : { omitted }),
  }
}

export const questionOf = ({
  server,
  tenant,
  subject,
  downstream,
  scopes,
  tool,
  operation,
  environment,
  narrows,
  now,
}: Asking): PolicyQuestion => ({
  principal: principalOf(tenant, subject),
  action: downstream.credential,
  server: {
    id: server.server,
    owner: server.owner,
    status: server.status,
    ...(server.team === undefined ? {} : { team: server.team }),
  },
  downstream: { id: downstream.downstream },
  tenant,
  scopes,
  environment,
  narrows,
  now,
  ...(tool === undefined ? {} : { tool }),
  ...(operation === undefined ? {} : { operation }),
  ...(subject?.acr === undefined ? {} : { acr: subject.acr }),
  ...(subject?.client === undefined ? {} : { client: { id: subject.client, known: knownBy(subject.client) } }),
})
