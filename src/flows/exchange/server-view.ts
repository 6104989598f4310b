import type { Clock } from '#clock'
import { type CurrentSnapshot, type Server, type Snapshot, takesAssertions } from '#config'
import { asDeputyError, refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import { ownValue } from '#foundation/text'
import { agentsIn } from '#identity/client'
import type { Policy } from '#identity/policy'
import { type SubjectVerifier, trustOf, type VerifiedSubject } from '#identity/subject'
import { type AttestedWorkload, type CallerEvidence, PROOF_ALGORITHMS } from '#identity/workload'
import { authorize } from './authorize.ts'
import type { RequestOrigin } from './request.ts'
import type { Introspection } from './introspection.ts'
import type { Presentation } from './possession.ts'
import type { SubjectState } from './subject-state.ts'
import { assertForAgent, resolveTarget } from './target.ts'
import { missingFor } from './tool.ts'

/** What an MCP server can read at Deputy: its own registration, and what the user who calls it may do there. */
export interface ServerView {
  /** The server's own registration, and the issuers of the tokens that it accepts (for RFC 9728). */
  describe(origin: RequestOrigin): Promise<object>
  /** As introspection of a user's token, with the server's tools: which of them policy lets this user call. */
  tools(origin: RequestOrigin, token: Secret, presented?: Presentation): Promise<Introspection>
  /**
   * As `tools`, for a server that Deputy hosts: its tools are judged one at a time. A token that does not count is
   * recorded; one that does is recorded with what it is used for.
   */
  caller(origin: RequestOrigin, token: Secret, presented?: Presentation): Promise<HostedCaller>
  /**
   * The same for the Unix user at the other end of the socket, who has signed in with `deputy login`.
   * @throws DeputyError of the session
   */
  sessionCaller(
    origin: RequestOrigin,
    uid: number,
  ): Promise<Pick<HostedCaller, 'judge'> & { readonly subject: VerifiedSubject }>
}

/** The issuers whose tokens clients may present to the server (RFC 9728 section 2); Deputy is one where it redeems identity assertions for them. */
const authorizationServers = (server: Server, snapshot: Snapshot, deputy: string): readonly string[] => {
  if (server.sign_in === 'deputy') return [deputy]
  const issuers = trustOf(server, snapshot).all.map(({ issuer }) => issuer.issuer)
  const hasAgents = agentsIn(snapshot).some(({ agent }) => Object.hasOwn(agent.servers, server.server))
  const own = hasAgents || takesAssertions(server, snapshot.tenants.values()) ? [deputy] : []
  return [...new Set(server.first_authorization_server === 'deputy' ? [...own, ...issuers] : [...issuers, ...own])]
}

/** What policy allows of a tool, or why it is hidden. */
export type ToolJudgement =
  | { readonly scopes: readonly string[]; readonly denied?: undefined; readonly policies?: undefined }
  | { readonly scopes?: undefined; readonly denied: string; readonly policies: readonly string[] }

/** Judges the tools of a server for one caller, each when it is asked for. */
const judgeFor =
  (deps: ServerViewDependencies, server: Server, subject: VerifiedSubject): HostedCaller['judge'] =>
  (tool) => {
    const registered = ownValue(server.tools, tool)
    if (registered === undefined) return undefined
    return { ...judge(deps, tool, server, subject), requires: registered.requires }
  }

interface ServerViewDependencies {
  readonly snapshot: CurrentSnapshot
  readonly attest: (evidence: CallerEvidence, snapshot: Snapshot) => Promise<AttestedWorkload>
  readonly subjectState: SubjectState
  readonly subjects: Pick<SubjectVerifier, 'fromSession'>
  readonly policy: () => Policy
  readonly issuer: () => string
  readonly clock: Clock
}

/** Decides by the same steps as the exchange, without issuing. A tool that names no downstream needs no policy. */
const judge = (
  deps: Pick<ServerViewDependencies, 'snapshot' | 'policy' | 'clock'>,
  tool: string,
  server: Server,
  subject: VerifiedSubject,
): ToolJudgement => {
  const { downstream } = server.tools[tool]!
  if (downstream === undefined) return { scopes: [] }
  const snapshot = deps.snapshot()
  const { tenant } = subject.tenant
  try {
    const target = resolveTarget(
      { audiences: [downstream], resources: [] },
      { server, uses: server.downstreams, tenant, snapshot },
    )
    assertForAgent(target, subject)
    const decision = authorize(deps.policy(), {
      server,
      tenant,
      subject,
      target,
      wish: { tool },
      snapshot,
      now: deps.clock.now(),
    })
    if (decision.allowed) return { scopes: decision.scopes }
    const { message } = refuse('policy_denied', { server: server.server, downstream })
    const how = decision.policies.length === 0 ? 'No policy permits it.' : 'A policy forbids it.'
    return { denied: `${message} ${how}`, policies: decision.policies }
  } catch (thrown) {
    const error = asDeputyError(thrown)
    if (error.code === 'internal') throw thrown
    return { denied: error.message, policies: [] }
  }
}

/** The tools of a server for a user: the answer for the server, and the part of it for the audit record. */
const toolsOf = (deps: ServerViewDependencies, server: Server, subject: VerifiedSubject) => {
  const judged = Object.keys(server.tools).map((tool) => ({ tool, ...judge(deps, tool, server, subject) }))
  return {
    answer: {
      tools: Object.fromEntries(
        judged.map(({ tool, scopes, denied }) => {
          const { downstream, requires } = server.tools[tool]!
          const missing = missingFor({ requires }, subject)
          return [
            tool,
            {
              allowed: scopes !== undefined,
              ...(downstream === undefined ? {} : { downstream }),
              scopes: scopes ?? [],
              requires,
              ...(missing.length === 0 ? {} : { missing }),
              ...(denied === undefined ? {} : { denied }),
            },
          ]
        }),
      ),
    },
    // The rule that decided is for the security team, so only the record names it.
    record: {
      hidden: judged.flatMap(({ tool, denied, policies }) =>
        denied === undefined ? [] : [{ tool, problem: denied, policies }],
      ),
    },
  }
}

/** Refused tokens that are recorded for each hosted server, in each time (ms): anyone on the network can send one. */
const MAX_REFUSALS = 20
const REFUSALS_MS = 1000

/** @returns whether another refusal of a server is recorded now */
const createRecordBudget = (clock: Clock): ((server: string) => boolean) => {
  const counts = new Map<string, number>()
  let since = -Infinity
  return (server) => {
    const now = clock.now()
    if (now - since >= REFUSALS_MS || now < since) {
      counts.clear()
      since = now
    }
    const count = (counts.get(server) ?? 0) + 1
    counts.set(server, count)
    return count <= MAX_REFUSALS
  }
}

/** A caller of a server that Deputy hosts. */
export interface HostedCaller {
  readonly answer: Introspection
  /** What policy allows this caller of a tool; undefined: the server has no such tool. */
  judge(tool: string): (ToolJudgement & { readonly requires: readonly string[] }) | undefined
}

/** Answers the questions of servers about themselves and their users. */
export const createServerView = (deps: ServerViewDependencies): ServerView => {
  const mayRecord = createRecordBudget(deps.clock)
  return {
    async describe(origin) {
      const snapshot = deps.snapshot()
      const { server, warning } = await deps.attest(origin.evidence, snapshot)
      return {
        server: server.server,
        name: server.name ?? server.server,
        resource: server.resource,
        authorization_servers: authorizationServers(server, snapshot, deps.issuer()),
        scopes_supported: server.basic_scopes,
        ...(server.checks_possession ? { dpop_signing_alg_values_supported: PROOF_ALGORITHMS } : {}),
        downstreams: server.downstreams,
        tools: server.tools,
        ...(warning === undefined ? {} : { warning }),
      }
    },

    async tools(origin, token, presented) {
      const { server } = await deps.attest(origin.evidence, deps.snapshot())
      return deps.subjectState.introspect({ origin, server, token, presented }, (subject) =>
        toolsOf(deps, server, subject),
      )
    },

    async caller(origin, token, presented) {
      const { server } = await deps.attest(origin.evidence, deps.snapshot())
      let verified: VerifiedSubject | undefined
      const isRecorded = (isActive: boolean): boolean => !isActive && mayRecord(server.server)
      const asked = { origin, server, token, presented, isRecorded }
      const answer = await deps.subjectState.introspect(asked, (subject) => {
        verified = subject
        return { answer: {}, record: {} }
      })
      return {
        answer,
        judge: answer.active && verified !== undefined ? judgeFor(deps, server, verified) : () => undefined,
      }
    },

    async sessionCaller(origin, uid) {
      const { server } = await deps.attest(origin.evidence, deps.snapshot())
      const subject = await deps.subjects.fromSession({ uid, server })
      return { subject, judge: judgeFor(deps, server, subject) }
    },
  }
}
