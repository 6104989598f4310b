import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Deputy } from '../index.ts'
import type { Registration } from '../registration.ts'
import { authInfoOf, Caller, type AuthInfo } from './caller.ts'
import { digestOf, readJson, toolsCalled } from './message.ts'
import { challenge, type BearerError } from './metadata.ts'
import { onlyHeader } from './origin.ts'
import type { Registered } from './registration-cache.ts'
import { sendJson, sendRpcError } from './respond.ts'

/** A request whose user Deputy has verified. `auth` is where both SDKs look. */
export type VouchedRequest = IncomingMessage & { method: string; url: string; auth: AuthInfo }

/** Hands a request on; the body has been read. */
export type Serve = (
  request: VouchedRequest,
  response: ServerResponse,
  body: unknown,
  caller: Caller,
) => Promise<void> | void

/** What authorizing a request needs of the gate. */
export interface AuthorizationContext {
  readonly deputy: Pick<Deputy, 'introspect'>
  /** Bytes of a request. */
  readonly bodyLimit: number
  readonly report: (problem: string) => void
  readonly serve: Serve
}

/** A refusal with a challenge (RFC 6750 section 3). */
interface Refusal {
  readonly status: 400 | 401 | 403
  readonly error?: BearerError
  readonly description?: string
  /** Default: those that the server supports. */
  readonly scopes?: readonly string[]
}

/** Stands before the path of a request, to read it as a URL. */
export const LOCAL_ORIGIN = 'http://localhost'

const BEARER = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i

const sendRefusal = (
  response: ServerResponse,
  { registration, places }: Registered,
  { status, error, description, scopes = registration.scopesSupported }: Refusal,
): void => {
  sendJson(
    response,
    status,
    { error: error ?? 'unauthorized', ...(description === undefined ? {} : { error_description: description }) },
    { 'WWW-Authenticate': challenge({ error, description, scopes, metadataUrl: places.metadataUrl }) },
  )
}

/** The user's token of a request (RFC 6750 section 2.1). */
const readToken = (request: IncomingMessage): { readonly token: string } | { readonly refusal: Refusal } => {
  if (URL.parse(request.url ?? '', LOCAL_ORIGIN)?.searchParams.has('access_token') === true)
    return {
      refusal: {
        status: 400,
        error: 'invalid_request',
        description: 'A token does not travel in a query string.',
      },
    }
  if (request.headers.authorization === undefined) return { refusal: { status: 401 } }
  const token = BEARER.exec(onlyHeader(request, 'authorization') ?? '')?.[1]
  if (token !== undefined) return { token }
  const description = 'The Authorization header is not Bearer with one token.'
  return { refusal: { status: 400, error: 'invalid_request', description } }
}

/** The body of a request; undefined when it was refused. */
const readBody = async (
  request: IncomingMessage & { body?: unknown },
  response: ServerResponse,
  limit: number,
): Promise<{ readonly value: unknown } | undefined> => {
  if (request.method !== 'POST') return { value: undefined }
  // A server that reads another type as JSON would be given a body that was not checked.
  if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) {
    sendRpcError(response, 415, -32_000, 'The content type has to be application/json.')
    return undefined
  }
  if (request.body !== undefined) return { value: request.body }
  const read = await readJson(request, limit)
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

/** Every scope that the server's file names for the user's own token. */
const scopesNamed = ({ scopesSupported, tools }: Registration): string[] => [
  ...scopesSupported,
  ...[...tools.values()].flatMap(({ requires }) => requires),
]

/** Names the missing scopes and those that the token has, so that the next token can do what this one could. */
const insufficientScope = (missing: readonly string[], caller: Caller, registration: Registration): Refusal => ({
  status: 403,
  error: 'insufficient_scope',
  description: `This needs the scope ${missing.join(' ')}.`,
  scopes: [
    ...new Set([...scopesNamed(registration).filter((scope) => caller.user.scopes.includes(scope)), ...missing]),
  ],
})

/** Tools that print their request do not print the user's token (promise 5). */
const removeToken = (request: IncomingMessage): void => {
  delete request.headers.authorization
  const { rawHeaders } = request
  for (let at = rawHeaders.length - 2; at >= 0; at -= 2)
    if (rawHeaders[at]!.toLowerCase() === 'authorization') rawHeaders.splice(at, 2)
}

/**
 * Verifies the user of a request to the MCP endpoint and hands it on, or refuses it.
 * @throws DeputyClientError when Deputy cannot verify tokens at the moment
 */
export const authorizeAndServe = async (
  request: IncomingMessage,
  response: ServerResponse,
  registered: Registered,
  { deputy, bodyLimit, report, serve }: AuthorizationContext,
): Promise<void> => {
  const presented = readToken(request)
  if ('refusal' in presented) {
    sendRefusal(response, registered, presented.refusal)
    return
  }
  const { token } = presented
  const introspected = await deputy.introspect(token)
  if (!introspected.active) {
    const id = introspected.correlationId === undefined ? '' : ` (${introspected.correlationId})`
    sendRefusal(response, registered, {
      status: 401,
      error: 'invalid_token',
      description: `The token is not valid here${id}.`,
    })
    return
  }
  const body = await readBody(request, response, bodyLimit)
  if (body === undefined) return
  const caller = new Caller(introspected, token, digestOf(body.value))
  const called = toolsCalled(body.value)
  for (const line of caller.hiddenTools(called)) report(line)
  const missing = caller.missingScopes(called)
  if (missing.length > 0) {
    sendRefusal(response, registered, insufficientScope(missing, caller, registered.registration))
    return
  }
  removeToken(request)
  const vouched = Object.assign(request as IncomingMessage & { method: string; url: string }, {
    auth: authInfoOf(caller, registered.registration.resource),
  })
  await serve(vouched, response, body.value, caller)
}
