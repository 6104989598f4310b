import type { IncomingMessage, ServerResponse } from 'node:http'
import { DeputyClientError } from '../error.ts'
import { connectDeputy, type Deputy, type DeputyOptions } from '../index.ts'
import type { Registration } from '../registration.ts'
import { authInfoOf, Caller, type AuthInfo } from './caller.ts'
import { digestOf, readJson, toolsCalled } from './message.ts'
import { challenge, placesOf, protectedResource, type BearerError, type Places } from './metadata.ts'
import { createOriginGuard, onlyHeader } from './origin.ts'

export interface McpOptions extends DeputyOptions {
  /** Host names under which clients reach the server, besides that of its resource and loopback. */
  readonly hosts?: readonly string[]
  /** Origins of web pages that may call it, for example `https://inspector.example`. */
  readonly origins?: readonly string[]
  /** Issuers to name in the metadata, which everybody can read. Default: those of all tenants that the server serves. */
  readonly authorizationServers?: readonly string[]
  /** Most bytes of a request (default 4 MiB). */
  readonly bodyLimit?: number
  /** How long a call that has asked the user to connect waits for it once the user has gone to the page (ms; default 30000). */
  readonly wait?: number
  /** Gets what goes wrong on the server's side, never with a token in it. Default: a line to standard error. */
  readonly report?: (problem: string) => void
}

/** A request that Deputy has vouched for. `auth` is where both SDKs look. */
export type VouchedRequest = IncomingMessage & { method: string; url: string; auth: AuthInfo }

/** Hands a request on; the body has been read. */
export type Serve = (
  request: VouchedRequest,
  response: ServerResponse,
  body: unknown,
  caller: Caller,
) => Promise<void> | void

/** Listener for `http.createServer`, and middleware for express: what is not for the MCP server goes to `next`. */
export interface McpListener {
  (request: IncomingMessage, response: ServerResponse, next?: (error?: unknown) => void): void
  close(): Promise<void>
}

/** Stands before the path of a request, to read it as a URL. */
const LOCAL = 'http://localhost'
const BODY = 4 * 1024 * 1024
/** How long a registration is taken at its word (ms). Who may do what is asked with each request. */
const REGISTERED = 60_000

const sendJson = (
  response: ServerResponse,
  status: number,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): void => {
  response
    .writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store', ...headers })
    .end(JSON.stringify(body))
}
/** An error of JSON-RPC that answers no message in particular. */
export const sendRpcError = (response: ServerResponse, status: number, code: number, message: string): void => {
  sendJson(response, status, { jsonrpc: '2.0', error: { code, message }, id: null })
}

/** Every scope that the server's file names for the user's own token. */
const scopesNamed = ({ scopesSupported, tools }: Registration): string[] => [
  ...scopesSupported,
  ...[...tools.values()].flatMap(({ requires }) => requires),
]

const BEARER = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i

/** Tools that print their request do not print the user's token (promise 5). */
const withoutToken = (request: IncomingMessage): void => {
  delete request.headers.authorization
  const { rawHeaders } = request
  for (let at = rawHeaders.length - 2; at >= 0; at -= 2)
    if (rawHeaders[at]!.toLowerCase() === 'authorization') rawHeaders.splice(at, 2)
}

/** The registration, asked for now and then; while Deputy is away the last one stands. */
const createRegistered = (deputy: Deputy, now: () => number) => {
  let known: { registration: Registration; places: Places; at: number } | undefined
  let asking: Promise<{ registration: Registration; places: Places }> | undefined
  const ask = async () => {
    const registration = await deputy.server()
    return (known = { registration, places: placesOf(registration.resource), at: now() })
  }
  return async () => {
    if (known !== undefined && now() - known.at < REGISTERED) return known
    try {
      return await (asking ??= ask().finally(() => {
        asking = undefined
      }))
    } catch (error) {
      if (known === undefined) throw error
      return known
    }
  }
}

/**
 * What stands in front of an MCP server over HTTP: it lets in only who has a token of a trusted issuer for this server,
 * by asking Deputy with each request, and answers everybody else as the MCP authorization specification says.
 * @see https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization
 */
export const createGate = (
  options: McpOptions,
  serve: Serve,
): {
  listener: (request: IncomingMessage, response: ServerResponse, next?: (error?: unknown) => void) => void
  deputy: Deputy
  report: (problem: string) => void
} => {
  const deputy = connectDeputy(options)
  const registered = createRegistered(deputy, options.now ?? Date.now)
  const report =
    options.report ??
    ((problem) => {
      process.stderr.write(`deputy: ${problem}\n`)
    })

  const readBody = async (
    request: IncomingMessage & { body?: unknown },
    response: ServerResponse,
  ): Promise<{ value: unknown } | undefined> => {
    if (request.method !== 'POST') return { value: undefined }
    // Whoever reads the type otherwise than we do could be given a body that nobody has looked at.
    if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) {
      sendRpcError(response, 415, -32_000, 'The content type has to be application/json.')
      return undefined
    }
    if (request.body !== undefined) return { value: request.body }
    const read = await readJson(request, options.bodyLimit ?? BODY)
    if (read === 'too_large') {
      sendRpcError(response, 413, -32_000, 'The request is too large.')
      return undefined
    }
    if (read === 'malformed') {
      sendRpcError(response, 400, -32_700, 'Parse error')
      return undefined
    }
    return read
  }

  const answerMcp = async (
    request: IncomingMessage,
    response: ServerResponse,
    registration: Registration,
    places: Places,
  ): Promise<void> => {
    const refuse = (
      status: 400 | 401 | 403,
      facts: { error?: BearerError; description?: string; scopes?: readonly string[] },
    ): void => {
      const { error, description, scopes = registration.scopesSupported } = facts
      sendJson(
        response,
        status,
        { error: error ?? 'unauthorized', ...(description === undefined ? {} : { error_description: description }) },
        { 'WWW-Authenticate': challenge({ error, description, scopes, metadataUrl: places.metadataUrl }) },
      )
    }
    if (URL.parse(request.url ?? '', LOCAL)?.searchParams.has('access_token') === true) {
      refuse(400, { error: 'invalid_request', description: 'A token does not travel in a query string.' })
      return
    }
    if (request.headers.authorization === undefined) {
      refuse(401, {})
      return
    }
    const token = BEARER.exec(onlyHeader(request, 'authorization') ?? '')?.[1]
    if (token === undefined) {
      refuse(400, { error: 'invalid_request', description: 'The Authorization header is not Bearer with one token.' })
      return
    }
    const introspected = await deputy.introspect(token)
    if (!introspected.active) {
      refuse(401, {
        error: 'invalid_token',
        description: `The token is not valid here${introspected.correlationId === undefined ? '' : ` (${introspected.correlationId})`}.`,
      })
      return
    }
    const body = await readBody(request, response)
    if (body === undefined) return
    const caller = new Caller(introspected, token, digestOf(body.value))
    const called = toolsCalled(body.value)
    for (const line of caller.hiddenTools(called)) report(line)
    const missing = caller.missingScopes(called)
    if (missing.length > 0) {
      // With what it has already, so that the next token can do what this one could.
      const scopes = [
        ...new Set([...scopesNamed(registration).filter((scope) => caller.user.scopes.includes(scope)), ...missing]),
      ]
      refuse(403, { error: 'insufficient_scope', description: `This needs the scope ${missing.join(' ')}.`, scopes })
      return
    }
    withoutToken(request)
    await serve(
      Object.assign(request as IncomingMessage & { method: string; url: string }, {
        auth: authInfoOf(caller, registration.resource),
      }),
      response,
      body.value,
      caller,
    )
  }

  const answerMetadata = (request: IncomingMessage, response: ServerResponse, registration: Registration): void => {
    // Public, and read by clients that are web pages.
    const cors = {
      'Access-Control-Allow-Origin': '*',
      'Access-Control-Allow-Methods': 'GET',
      'Access-Control-Allow-Headers': '*',
    }
    if (request.method === 'OPTIONS') {
      response.writeHead(204, cors).end()
      return
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      sendJson(response, 405, { error: 'method_not_allowed' }, { Allow: 'GET' })
      return
    }
    sendJson(
      response,
      200,
      protectedResource({
        ...registration,
        authorizationServers: options.authorizationServers ?? registration.authorizationServers,
      }),
      { ...cors, 'Cache-Control': 'public, max-age=60' },
    )
  }

  const answer = async (
    request: IncomingMessage & { originalUrl?: string },
    response: ServerResponse,
    next: ((error?: unknown) => void) | undefined,
  ): Promise<void> => {
    const { registration, places } = await registered()
    const pathname = URL.parse(request.originalUrl ?? request.url ?? '', LOCAL)?.pathname
    if (pathname === places.metadata) {
      answerMetadata(request, response, registration)
      return
    }
    const allowed = createOriginGuard({
      hosts: [...(options.hosts ?? []), new URL(registration.resource).hostname],
      origins: options.origins ?? [],
    })
    if (pathname !== places.endpoint) {
      if (next !== undefined) next()
      else sendJson(response, 404, { error: 'not_found' })
    } else if (allowed(request)) await answerMcp(request, response, registration, places)
    else sendRpcError(response, 403, -32_000, 'The Host or Origin of the request is not one of this server.')
  }

  const fail = (response: ServerResponse, error: unknown): void => {
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

  return {
    deputy,
    report,
    listener: (request, response, next) => {
      answer(request, response, next).catch((error: unknown) => {
        fail(response, error)
      })
    },
  }
}
