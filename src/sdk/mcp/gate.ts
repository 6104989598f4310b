import type { IncomingMessage, ServerResponse } from 'node:http'
import { DeputyClientError } from '../error.ts'
import { connectDeputy, type Deputy, type DeputyOptions } from '../index.ts'
import type { Registration } from '../registration.ts'
import { authorizeAndServe, LOCAL_ORIGIN, type AuthorizationContext, type GateDeputy, type Serve } from './authorize.ts'
import { protectedResource } from './metadata.ts'
import { createOriginGuard } from './origin.ts'
import { createRegistrationCache } from './registration-cache.ts'
import { sendJson, sendRpcError } from './respond.ts'

export interface McpOptions extends DeputyOptions {
  /** Host names under which clients reach the server, besides that of its resource and loopback. */
  readonly hosts?: readonly string[]
  /** Origins of web pages that may call it, for example `https://inspector.example`. */
  readonly origins?: readonly string[]
  /** Issuers to name in the metadata, which is public. Default: those of all tenants that the server serves. */
  readonly authorizationServers?: readonly string[]
  /** Most bytes of a request (default 4 MiB). */
  readonly bodyLimit?: number
  /** How long a call that has asked the user to connect waits for it once the user has gone to the page (ms; default 30000). */
  readonly wait?: number
  /** Receives problems of the server's side, never with a token in them. Default: a line to standard error. */
  readonly report?: (problem: string) => void
  /**
   * Cache lifetime of the server's registration (ms; default 60000). What a user may do is checked with each request.
   */
  readonly registrationLifetime?: number
}

/** Listener for `http.createServer`, and middleware for express: what is not for the MCP server goes to `next`. */
export interface McpListener {
  (request: IncomingMessage, response: ServerResponse, next?: (error?: unknown) => void): void
  close(): Promise<void>
}

const BODY_LIMIT = 4 * 1024 * 1024

const reportToStderr = (problem: string): void => {
  process.stderr.write(`deputy: ${problem}\n`)
}

/** Protected resource metadata (RFC 9728). It is public, and read by clients that are web pages. */
const answerMetadata = (request: IncomingMessage, response: ServerResponse, registration: Registration): void => {
  const cors = {
    'Access-Control-Allow-Origin': '*',
    'Access-Control-Allow-Methods': 'GET',
    'Access-Control-Allow-Headers': '*',
  }
  if (request.method === 'OPTIONS') response.writeHead(204, cors).end()
  else if (request.method !== 'GET' && request.method !== 'HEAD')
    sendJson(response, 405, { error: 'method_not_allowed' }, { Allow: 'GET' })
  else sendJson(response, 200, protectedResource(registration), { ...cors, 'Cache-Control': 'public, max-age=60' })
}

/** Answers a request that failed: 503 for one that may succeed later, 500 otherwise. */
const answerFailure = (response: ServerResponse, error: unknown, report: (problem: string) => void): void => {
  const [message, next, seconds] =
    error instanceof DeputyClientError
      ? [
          `${error.message}${error.correlationId === undefined ? '' : ` (${error.correlationId})`}`,
          ` ${error.next}`,
          error.retryAfter,
        ]
      : [error instanceof Error ? error.message : String(error), '', undefined]
  report(`${message}${next}`)
  if (response.headersSent) {
    response.destroy()
    return
  }
  if (seconds === undefined) sendRpcError(response, 500, -32_603, 'The server could not answer.')
  else
    sendJson(
      response,
      503,
      { error: 'temporarily_unavailable', error_description: 'The server cannot check tokens at the moment.' },
      { 'Retry-After': String(Math.ceil(seconds)) },
    )
}

/** The gate of an MCP server: what it serves, and through which Deputy. */
export interface Gate {
  readonly listener: (request: IncomingMessage, response: ServerResponse, next?: (error?: unknown) => void) => void
  readonly deputy: Deputy
  readonly report: (problem: string) => void
}

/**
 * Stands in front of an MCP server over HTTP: it admits requests with a token of a trusted issuer for this server, which
 * Deputy verifies with each request, and refuses the others as the MCP authorization specification says.
 * @see https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization
 */
export const createGate = (options: McpOptions, serve: Serve): Gate => {
  const deputy = connectDeputy(options)
  return { deputy, ...createGateAt(deputy, options, serve) }
}

/** The gate, with any way to Deputy: Deputy itself uses it for the servers that it hosts. */
export const createGateAt = (
  deputy: GateDeputy,
  options: Omit<McpOptions, keyof DeputyOptions> & Pick<DeputyOptions, 'now'>,
  serve: Serve,
): Omit<Gate, 'deputy'> => {
  const registered = createRegistrationCache(deputy, options.now ?? Date.now, options.registrationLifetime)
  const { report = reportToStderr, bodyLimit = BODY_LIMIT } = options
  const context: AuthorizationContext = { deputy, bodyLimit, report, serve }

  const answer = async (
    request: IncomingMessage & { originalUrl?: string },
    response: ServerResponse,
    next: ((error?: unknown) => void) | undefined,
  ): Promise<void> => {
    const current = await registered()
    const { registration, places } = current
    const pathname = URL.parse(request.originalUrl ?? request.url ?? '', LOCAL_ORIGIN)?.pathname
    if (pathname === places.metadata) {
      const { authorizationServers = registration.authorizationServers } = options
      answerMetadata(request, response, { ...registration, authorizationServers })
      return
    }
    if (pathname !== places.endpoint) {
      if (next !== undefined) next()
      else sendJson(response, 404, { error: 'not_found' })
      return
    }
    const isAllowed = createOriginGuard({
      hosts: [...(options.hosts ?? []), new URL(registration.resource).hostname],
      origins: options.origins ?? [],
    })
    if (isAllowed(request)) await authorizeAndServe(request, response, current, context)
    else sendRpcError(response, 403, -32_000, 'The Host or Origin of the request is not one of this server.')
  }

  return {
    report,
    listener: (request, response, next) => {
      answer(request, response, next).catch((error: unknown) => {
        answerFailure(response, error, report)
      })
    },
  }
}
