import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Inactive, Registration } from '../registration.ts'
import type { Deputy } from '../index.ts'
import { authInfoOf, Caller, type AuthInfo, type VerifiedCaller } from './caller.ts'
import { digestOf, readJson, toolsCalled } from './message.ts'
import { challenges, type Scheme, type TokenError } from './metadata.ts'
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

/** What a gate asks Deputy. */
export interface GateDeputy extends Pick<Deputy, 'server'> {
  introspect(...asked: Parameters<Deputy['introspect']>): Promise<VerifiedCaller | Inactive>
}

/** What authorizing a request needs of the gate. */
export interface AuthorizationContext {
  readonly deputy: Pick<GateDeputy, 'introspect'>
  /** Bytes of a request. */
  readonly bodyLimit: number
  readonly report: (problem: string) => void
  readonly serve: Serve
}

/** A refusal with a challenge (RFC 6750 section 3, RFC 9449 section 7.1). */
interface Refusal {
  readonly status: 400 | 401 | 403
  readonly error?: TokenError
  readonly description?: string
  /** Default: those that the server supports. */
  readonly scopes?: readonly string[]
  /** The scheme that the request used. */
  readonly scheme?: Scheme
  /** The nonce that the next DPoP proof has to carry. */
  readonly nonce?: string | undefined
}

/** Stands before the path of a request, to read it as a URL. */
export const LOCAL_ORIGIN = 'http://localhost'

const AUTHORIZATION = /^(Bearer|DPoP) +([A-Za-z0-9._~+/-]+=*)$/i

const sendRefusal = (
  response: ServerResponse,
  { registration, places }: Registered,
  { status, error, description, scopes = registration.scopesSupported, scheme, nonce }: Refusal,
): void => {
  sendJson(
    response,
    status,
    { error: error ?? 'unauthorized', ...(description === undefined ? {} : { error_description: description }) },
    {
      'WWW-Authenticate': challenges(scheme, {
        error,
        description,
        scopes,
        metadataUrl: places.metadataUrl,
        algorithms: registration.proofAlgorithms,
      }),
      ...(nonce === undefined ? {} : { 'DPoP-Nonce': nonce }),
    },
  )
}

/** A token as it came, or why there is none. */
type Read = { readonly token: string; readonly scheme: Scheme } | { readonly refusal: Refusal }

/** The user's token of a request (RFC 6750 section 2.1, RFC 9449 section 7.1). @param proofAlgorithms empty where the server takes no bound tokens */
const readToken = (request: IncomingMessage, { proofAlgorithms }: Registration): Read => {
  if (URL.parse(request.url ?? '', LOCAL_ORIGIN)?.searchParams.has('access_token') === true)
    return {
      refusal: {
        status: 400,
        error: 'invalid_request',
        description: 'A token does not travel in a query string.',
      },
    }
  if (request.headers.authorization === undefined) return { refusal: { status: 401 } }
  const [, name, token] = AUTHORIZATION.exec(onlyHeader(request, 'authorization') ?? '') ?? []
  const scheme = name?.toLowerCase() === 'dpop' ? 'DPoP' : 'Bearer'
  if (token !== undefined && (scheme === 'Bearer' || proofAlgorithms.length > 0)) return { token, scheme }
  const description = `The Authorization header is not Bearer${proofAlgorithms.length > 0 ? ' or DPoP' : ''} with one token.`
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
 * Under which URLs a client may have called the MCP endpoint: that of the resource, behind whatever proxies, and the one that the
 * request names. Its host is one of the server's own (`createOriginGuard`); of its scheme the server cannot be sure.
 */
const urlsOf = (request: IncomingMessage, { registration: { resource }, places }: Registered): string[] => {
  const host = onlyHeader(request, 'host') ?? ''
  return [...new Set([resource, `https://${host}${places.endpoint}`, `http://${host}${places.endpoint}`])]
}

/** Why a token was refused, as its client may know it: of a proof it can make a better one. */
const refusalOf = ({ error, nonce, correlationId }: Inactive, scheme: Scheme): Refusal => {
  const id = correlationId === undefined ? '' : ` (${correlationId})`
  if (error === 'use_dpop_nonce')
    return {
      status: 401,
      scheme,
      error,
      nonce,
      description: `The DPoP proof must contain the nonce of this answer${id}.`,
    }
  if (error === 'invalid_dpop_proof')
    return { status: 401, scheme, error, description: `The DPoP proof is not valid for this request${id}.` }
  return { status: 401, scheme, error: 'invalid_token', description: `The token is not valid here${id}.` }
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
  const presented = readToken(request, registered.registration)
  if ('refusal' in presented) {
    sendRefusal(response, registered, presented.refusal)
    return
  }
  const { token, scheme } = presented
  const proof = onlyHeader(request, 'dpop')
  const introspected = await deputy.introspect(token, undefined, {
    scheme,
    method: request.method ?? '',
    urls: urlsOf(request, registered),
    proof: scheme === 'DPoP' ? proof : undefined,
  })
  if (!introspected.active) {
    sendRefusal(response, registered, refusalOf(introspected, scheme))
    return
  }
  const body = await readBody(request, response, bodyLimit)
  if (body === undefined) return
  const caller = new Caller(introspected, token, digestOf(body.value))
  const called = toolsCalled(body.value)
  for (const line of caller.hiddenTools(called)) report(line)
  const missing = caller.missingScopes(called)
  if (missing.length > 0) {
    sendRefusal(response, registered, { ...insufficientScope(missing, caller, registered.registration), scheme })
    return
  }
  removeToken(request)
  const vouched = Object.assign(request as IncomingMessage & { method: string; url: string }, {
    auth: authInfoOf(caller, registered.registration.resource),
  })
  await serve(vouched, response, body.value, caller)
}
