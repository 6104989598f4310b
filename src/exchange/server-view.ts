import type { Clock } from '../clock.ts'
import type { Server } from '../config/server.ts'
import type { CurrentSnapshot, Snapshot } from '../config/snapshot.ts'
import { takesAssertions } from '../config/tenant.ts'
import type { Secret } from '../crypto/secret.ts'
import { asDeputyError } from '../errors.ts'
import type { Policy } from '../policy/decision.ts'
import type { VerifiedSubject } from '../subject/subject.ts'
import { trustOf } from '../subject/trust.ts'
import type { AttestedWorkload } from '../workload/attestor.ts'
import type { CallerEvidence } from '../workload/caller-evidence.ts'
import { authorize } from './authorize.ts'
import type { RequestOrigin } from './request.ts'
import type { Introspection, SubjectState } from './subject-state.ts'
import { resolveTarget } from './target.ts'

/** What Deputy tells an MCP server: who it is, and what the user who calls it may do there. */
export interface ServerView {
  /** The server's own registration, and whose tokens it accepts (for RFC 9728). */
  describe(origin: RequestOrigin): Promise<object>
  /** As introspection of a user's token, with the server's tools: which of them policy lets this user call. */
  tools(origin: RequestOrigin, token: Secret): Promise<Introspection>
}

/** Whose tokens the server's clients may bring (RFC 9728 section 2); Deputy's own where identity assertions are redeemed for them. */
const authorizationServers = (server: Server, snapshot: Snapshot, deputy: string): readonly string[] => {
  const issuers = trustOf(server, snapshot).all.map(({ issuer }) => issuer.issuer)
  const own = takesAssertions(server, snapshot.tenants.values()) ? [deputy] : []
  return [...new Set(server.first_authorization_server === 'deputy' ? [...own, ...issuers] : [...issuers, ...own])]
}

export const createServerView = (deps: {
  readonly snapshot: CurrentSnapshot
  readonly attest: (evidence: CallerEvidence, snapshot: Snapshot) => Promise<AttestedWorkload>
  readonly subjectState: SubjectState
  readonly policy: () => Policy
  readonly issuer: () => string
  readonly clock: Clock
}): ServerView => {
  /** By the very steps of the exchange, without issuing. A tool that names no downstream asks nothing of policy. */
  const allowedScopes = (tool: string, server: Server, subject: VerifiedSubject): readonly string[] | undefined => {
    const { downstream } = server.tools[tool]!
    if (downstream === undefined) return []
    const snapshot = deps.snapshot()
    const { tenant } = subject.tenant
    try {
      const target = resolveTarget(
        { audiences: [downstream], resources: [] },
        server,
        server.downstreams,
        tenant,
        snapshot,
      )
      const decision = authorize(deps.policy(), {
        server,
        tenant,
        subject,
        target,
        wish: { tool },
        snapshot,
        now: deps.clock.now(),
      })
      return decision.allowed ? decision.scopes : undefined
    } catch (thrown) {
      if (asDeputyError(thrown).code === 'internal') throw thrown
      return undefined
    }
  }

  const toolsOf = (server: Server, subject: VerifiedSubject) =>
    Object.fromEntries(
      Object.entries(server.tools).map(([tool, { downstream, requires }]) => {
        const scopes = allowedScopes(tool, server, subject)
        return [
          tool,
          {
            allowed: scopes !== undefined,
            ...(downstream === undefined ? {} : { downstream }),
            scopes: scopes ?? [],
            requires,
          },
        ]
      }),
    )

  return {
    async describe(origin) {
      const snapshot = deps.snapshot()
      const { server, warning } = await deps.attest(origin.evidence, snapshot)
      return {
        server: server.server,
        name: server.name ?? server.server,
        resource: server.resource,
        authorization_servers: authorizationServers(server, snapshot, deps.issuer()),
        scopes_supported: [...new Set(Object.values(server.tools).flatMap(({ requires }) => requires))].sort(),
        downstreams: server.downstreams,
        tools: server.tools,
        ...(warning === undefined ? {} : { warning }),
      }
    },

    async tools(origin, token) {
      const { server } = await deps.attest(origin.evidence, deps.snapshot())
      return deps.subjectState.introspect(origin, server, token, (subject) => ({ tools: toolsOf(server, subject) }))
    },
  }
}
