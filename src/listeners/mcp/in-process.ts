import type { CurrentSnapshot, Snapshot } from '#config'
import { asDeputyError } from '#errors'
import type { HostedCaller, RequestOrigin, ServerView } from '#flows/exchange'
import type { ToolCalls } from '#flows/tool-call'
import { Secret } from '#foundation/crypto'
import type { Logger } from '#foundation/telemetry'
import { HostedWorkload } from '#identity/workload'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import { describeTool } from '#openapi'
import {
  type Caller,
  type GateDeputy,
  parseInactive,
  parseIntrospected,
  parseRegistration,
  type Registration,
  type VerifiedCaller,
} from '#sdk/hosting'
import { asClientError } from './client-error.ts'
import type { ToolBackend } from './tools-server.ts'

export interface InProcessDependencies {
  readonly snapshot: CurrentSnapshot
  readonly serverView: Pick<ServerView, 'describe' | 'caller'>
  readonly toolCalls: ToolCalls
  readonly correlationId: () => string
  readonly logger: Logger
}

type Judge = HostedCaller['judge']
type JudgedTool = NonNullable<ReturnType<VerifiedCaller['tools']['get']>>

const NO_TOOL = { scopes: undefined, denied: 'The server has no such tool.', requires: [] }

/** Runs work of the daemon as a client of Deputy sees it. @throws DeputyClientError */
const asClient = async <T>(correlationId: string, logger: Logger, work: () => Promise<T>): Promise<T> => {
  try {
    return await work()
  } catch (thrown) {
    const error = asDeputyError(thrown)
    if (error.code === 'internal')
      logger.error({ err: error.cause, correlation_id: correlationId }, 'a request for a hosted MCP server failed')
    throw asClientError(error, correlationId)
  }
}

/** The tools of a caller, each judged when it is looked up, in the form in which the middleware reads them. */
const lazyTools = (judge: Judge): VerifiedCaller['tools'] => {
  const judged = new Map<string, JudgedTool>()
  const asRead = (tool: string): JudgedTool => {
    const { scopes, denied, requires } = judge(tool) ?? NO_TOOL
    return {
      allowed: scopes !== undefined,
      downstream: undefined,
      scopes: scopes ?? [],
      requires,
      ...(denied === undefined ? {} : { denied }),
    }
  }
  return {
    // The gate and the server ask about the tool of one request several times.
    get(tool) {
      const found = judged.get(tool) ?? asRead(tool)
      judged.set(tool, found)
      return found
    },
  }
}

/** Deputy as the gate of a hosted server asks it: without a socket, and with the server proved by construction. */
export const createHostedDeputy = (server: string, deps: InProcessDependencies): GateDeputy => {
  const { snapshot, serverView, correlationId, logger } = deps
  // It names the issuers of all tenants, and changes with the files alone.
  let known: { readonly of: Snapshot; readonly registration: Registration } | undefined
  const evidence = { hosted: new HostedWorkload(server) }
  const originOf = (id: string): RequestOrigin => ({ correlationId: id, evidence })
  return {
    async server() {
      const current = snapshot()
      if (known?.of === current) return known.registration
      const id = correlationId()
      const described = await asClient(id, logger, () => serverView.describe(originOf(id)))
      const registration = parseRegistration(described as Record<string, unknown>)!
      known = { of: current, registration }
      return registration
    },
    async introspect(token, _signal, presented) {
      const id = correlationId()
      return asClient(id, logger, async () => {
        const { proof, ...how } = presented ?? { proof: undefined }
        const { answer, judge } = await serverView.caller(
          originOf(id),
          new Secret(token),
          'scheme' in how ? { ...how, ...(proof === undefined ? {} : { proof }) } : undefined,
        )
        if (!answer.active) return parseInactive(answer, id)
        return { ...parseIntrospected(answer, id)!, tools: lazyTools(judge) }
      })
    },
  }
}

/** The tools of a server for a caller whom the gate has verified. */
export const createBackend = (server: string, caller: Caller, deps: InProcessDependencies): ToolBackend => {
  const { snapshot, toolCalls, correlationId, logger } = deps
  const { user } = caller
  const hosted = () => snapshot().hosted.get(server) ?? new Map()
  return {
    list: async () =>
      [...hosted().values()].filter(({ tool }) => caller.mayCall(tool.name)).map(({ tool }) => describeTool(tool)),
    has: async (tool) => hosted().has(tool) && caller.mayCall(tool),
    call(tool, args, { signal, onProgress }) {
      const id = correlationId()
      return asClient(id, logger, () =>
        toolCalls.call({
          origin: { correlationId: id, evidence: { hosted: new HostedWorkload(server) } },
          server,
          tool,
          arguments: args,
          onBehalfOf: { subjectToken: new Secret(user.token.reveal()), subjectTokenType: ACCESS_TOKEN_TYPE },
          who: { tenant: user.tenant, ...(user.isAgent ? { agent: user.sub } : { user: user.sub }) },
          signal,
          onProgress,
        }),
      )
    },
  }
}
