import type { Downstream, Server } from '#config'
import { knownBy } from '#identity/client'
import type { PolicyQuestion } from '#identity/policy'

/** What the exchange and `deputy policy explain` both ask of policy. */
export interface Asking {
  readonly server: Server
  readonly tenant: string
  /** The user for whom the server acts; absent: it asks for itself. */
  readonly subject:
    | (Pick<Extract<PolicyQuestion['principal'], { kind: 'user' }>, 'user' | 'groups' | 'omitted' | 'claims'> & {
        readonly acr?: string | undefined
        /** The MCP client that the user has signed in at. */
        readonly client?: string | undefined
      })
    | undefined
  readonly downstream: Downstream
  readonly scopes: readonly string[]
  readonly tool: string | undefined
  readonly environment: string
  /** What of the downstream's credentials can be narrowed (`narrowingOf`). */
  readonly narrows: readonly string[]
  /** ms since the epoch. */
  readonly now: number
}

export const questionOf = ({
  server,
  tenant,
  subject,
  downstream,
  scopes,
  tool,
  environment,
  narrows,
  now,
}: Asking): PolicyQuestion => ({
  principal:
    subject === undefined
      ? { kind: 'workload', tenant }
      : {
          kind: 'user',
          tenant,
          user: subject.user,
          groups: subject.groups,
          claims: subject.claims,
          ...(subject.omitted === undefined ? {} : { omitted: subject.omitted }),
        },
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
  ...(subject?.acr === undefined ? {} : { acr: subject.acr }),
  ...(subject?.client === undefined ? {} : { client: { id: subject.client, known: knownBy(subject.client) } }),
})
