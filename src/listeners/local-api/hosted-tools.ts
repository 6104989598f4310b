/** What `deputy mcp` calls: the tools of a server that Deputy hosts, for the Unix user who has signed in. */
import type { IncomingMessage } from 'node:http'
import { z } from 'zod'
import { idSchema } from '#config'
import { refuse } from '#errors'
import { LOGIN_SESSION_TOKEN, LOGIN_SESSION_TOKEN_TYPE, type RequestOrigin } from '#flows/exchange'
import { Secret } from '#foundation/crypto'
import { HostedWorkload, type PeerProcess } from '#identity/workload'
import { readJson, sendJson } from '#listeners/http'
import { describeTool } from '#openapi'
import { type Endpoint, type LocalApiDependencies, traceparentOf, unixPeerOf } from './endpoint.ts'

type Dependencies = Pick<LocalApiDependencies, 'serverView' | 'toolCalls' | 'snapshot' | 'peer'>

const toolsSchema = z.strictObject({ server: idSchema })
const callSchema = z.strictObject({
  server: idSchema,
  tool: z.string().min(1).max(200),
  arguments: z.record(z.string(), z.unknown()).default({}),
})

/** Bytes of a call: files travel in arguments, as base64. */
const MAX_CALL_BYTES = 4_194_304

const originOf = (
  request: IncomingMessage,
  correlationId: string,
  caller: { readonly server: string; readonly peer: PeerProcess },
): RequestOrigin => {
  const traceparent = traceparentOf(request)
  return {
    correlationId,
    evidence: { hosted: new HostedWorkload(caller.server), peer: caller.peer },
    ...(traceparent === undefined ? {} : { traceparent }),
  }
}

/** `POST /mcp/tools`: the tools that policy lets the user call. */
export const hostedToolsEndpoint =
  (deps: Dependencies): Endpoint =>
  async (request, response, correlationId) => {
    const { server } = await readJson(request, toolsSchema, deps.snapshot().settings.limits.body_bytes)
    const peer = await unixPeerOf(request, deps, 'hosted tools')
    const { judge } = await deps.serverView.sessionCaller(originOf(request, correlationId, { server, peer }), peer.uid)
    const hosted = [...(deps.snapshot().hosted.get(server)?.values() ?? [])]
    sendJson(response, 200, {
      tools: hosted.filter(({ tool }) => judge(tool.name)?.scopes !== undefined).map(({ tool }) => describeTool(tool)),
    })
  }

/** `POST /mcp/call`: calls a tool for the user. The call ends when the caller goes away. */
export const hostedCallEndpoint =
  (deps: Dependencies): Endpoint =>
  async (request, response, correlationId) => {
    const { server, tool, arguments: args } = await readJson(request, callSchema, MAX_CALL_BYTES)
    const peer = await unixPeerOf(request, deps, 'hosted tools')
    const origin = originOf(request, correlationId, { server, peer })
    const { judge, subject } = await deps.serverView.sessionCaller(origin, peer.uid)
    // A tool that policy hides is one that does not exist.
    if (judge(tool)?.scopes === undefined) throw refuse('tool_unknown', { tool, server })
    const gone = new AbortController()
    response.once('close', () => {
      gone.abort()
    })
    const answer = await deps.toolCalls.call({
      origin,
      server,
      tool,
      arguments: args,
      onBehalfOf: { subjectToken: new Secret(LOGIN_SESSION_TOKEN), subjectTokenType: LOGIN_SESSION_TOKEN_TYPE },
      who: { tenant: subject.tenant.tenant, ...(subject.user === undefined ? {} : { user: subject.user }) },
      signal: gone.signal,
    })
    sendJson(response, 200, answer, { 'X-Correlation-Id': correlationId })
  }
