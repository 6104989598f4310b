import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { asDeputyError, refuse } from '#errors'
import { assertNotEncoded, assertSingleHeaders, paths, requestTargetOf, sendError } from '#listeners/http'
import { discoveryEndpoint, keysEndpoint, metadataEndpoint } from './discovery.ts'
import { type Endpoint, formOf, type LocalApiDependencies, traceparentOf } from './endpoint.ts'
import { createExecEndpoint } from './exec.ts'
import { hostedCallEndpoint, hostedToolsEndpoint } from './hosted-tools.ts'
import { healthEndpoint, readyEndpoint } from './health.ts'
import { loginSessionEndpoints } from './login-session.ts'
import { serverEndpoint, toolsEndpoint } from './server.ts'
import { introspectionEndpoint, revocationEndpoint } from './token-state.ts'
import { tokenEndpoint } from './token.ts'

/** The endpoints of one path, by method. */
type Methods = Partial<Record<string, Endpoint>>

const endpointTable = (deps: LocalApiDependencies): ReadonlyMap<string, Methods> =>
  new Map<string, Methods>([
    [paths.token, { POST: tokenEndpoint(deps) }],
    [paths.introspect, { POST: introspectionEndpoint(deps) }],
    [paths.revoke, { POST: revocationEndpoint(deps) }],
    [
      paths.exec,
      { POST: createExecEndpoint({ ...deps.exec, form: (request) => formOf(request, deps), peer: deps.peer }) },
    ],
    [paths.server, { GET: serverEndpoint(deps), POST: serverEndpoint(deps) }],
    [paths.tools, { POST: toolsEndpoint(deps) }],
    [paths.hostedTools, { POST: hostedToolsEndpoint(deps) }],
    [paths.hostedCall, { POST: hostedCallEndpoint(deps) }],
    [paths.session, loginSessionEndpoints(deps)],
    [paths.metadata, { GET: metadataEndpoint(deps) }],
    [paths.discovery, { GET: discoveryEndpoint(deps) }],
    [paths.jwks, { GET: keysEndpoint(deps) }],
    [paths.health, { GET: healthEndpoint }],
    [paths.ready, { GET: readyEndpoint(deps) }],
  ])

/** The endpoint of a request, and its path. @throws DeputyError `not_found`, `method_not_allowed`, `malformed_request` */
const endpointOf = (
  request: IncomingMessage,
  endpoints: ReadonlyMap<string, Methods>,
): { endpoint: Endpoint; path: string } => {
  const { target } = requestTargetOf(request)
  const query = target.indexOf('?')
  const path = query < 0 ? target : target.slice(0, query)
  const methods = endpoints.get(path)
  if (methods === undefined) throw refuse('not_found', { path: path.slice(0, 200) })
  const endpoint = Object.hasOwn(methods, request.method ?? '') ? methods[request.method!] : undefined
  if (endpoint === undefined)
    throw refuse('method_not_allowed', { method: request.method ?? '', allowed: Object.keys(methods).join(' or ') })
  // Tokens never travel in a query string: no endpoint of the local API takes one.
  if (query >= 0) throw refuse('malformed_request', { problem: 'this endpoint takes no query string' })
  return { endpoint, path }
}

const sendRefusal = (
  response: ServerResponse,
  thrown: unknown,
  correlationId: string,
  { logger }: Pick<LocalApiDependencies, 'logger'>,
): void => {
  const error = asDeputyError(thrown)
  if (error.code === 'internal')
    logger.error({ err: error.cause, correlation_id: correlationId }, 'a request failed inside Deputy')
  else if (error.kind.status === 503)
    logger.debug({ err: error, correlation_id: correlationId }, 'a request was refused temporarily')
  sendError(response, error, correlationId)
}

/**
 * The local API. Its endpoints stand in one table, answered straight from `node:http`: a token request is the hot path,
 * and a router in front of it costs as much as all of the work behind it.
 */
export const createLocalApi = (deps: LocalApiDependencies): RequestListener => {
  const endpoints = endpointTable(deps)
  const answer = async (request: IncomingMessage, response: ServerResponse, correlationId: string): Promise<void> => {
    deps.guard(request)
    assertSingleHeaders(request)
    assertNotEncoded(request)
    const { endpoint, path } = endpointOf(request, endpoints)
    const origin = { traceparent: traceparentOf(request), id: correlationId }
    await deps.trace(origin, `${request.method} ${path}`, async () => {
      await endpoint(request, response, correlationId)
    })
  }
  return (request, response) => {
    const correlationId = deps.correlationId()
    answer(request, response, correlationId).catch((thrown: unknown) => {
      sendRefusal(response, thrown, correlationId, deps)
    })
  }
}
