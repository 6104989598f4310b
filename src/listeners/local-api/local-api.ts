import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { CurrentSnapshot } from '#config'
import { asDeputyError, refuse } from '#errors'
import type { BeginExec, Exchange, IssuedToken, RequestOrigin, ServerView, TokenState } from '#flows/exchange'
import { Secret } from '#foundation/crypto'
import type { Logger, Telemetry } from '#foundation/telemetry'
import type { ExecSession, PeerProcess } from '#identity/workload'
import {
  assertNotEncoded,
  assertSingleHeaders,
  CLIENT_CREDENTIALS_GRANT,
  discoveryDocument,
  Form,
  hostOf,
  metadataDocument,
  paths,
  readEvidence,
  readForm,
  requestTargetOf,
  sendError,
  sendJson,
  TOKEN_EXCHANGE_GRANT,
} from '#listeners/http'
import { createExecEndpoint, type ExecProxy } from './exec.ts'
import { parseTokenExchange, parseTokenRequest } from './token-request.ts'

export interface Readiness {
  readonly ready: boolean
  readonly checks: Readonly<Record<string, string>>
  /** Of vaults and key services: their words, names of tenants and of secrets, which are for admins. */
  readonly backends: Readonly<Record<string, string>>
}

/** What any program of this machine may know of a check for admins. */
const shortened = (checks: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(checks).map(([name, state]) => [
      name,
      state === 'ok' ? state : 'not as it should be; deputy status tells an admin what is wrong',
    ]),
  )

export interface LocalApiDependencies {
  readonly snapshot: CurrentSnapshot
  readonly exchange: Exchange
  readonly tokens: TokenState
  readonly serverView: ServerView
  readonly jwks: () => object
  /** Who is at the other end of the connection; undefined over TCP. */
  readonly peer: (request: IncomingMessage) => Promise<PeerProcess | undefined>
  readonly guard: (request: IncomingMessage) => void
  readonly readiness: () => Promise<Readiness>
  readonly login: LoginSessions
  readonly exec: { readonly begin: BeginExec; readonly proxy: (session: ExecSession) => ExecProxy | undefined }
  /** Runs a request as a span that follows the caller's. */
  readonly trace: <T>(
    origin: { traceparent: string | undefined; id: string },
    name: string,
    work: () => Promise<T>,
  ) => Promise<T>
  readonly correlationId: () => string
  readonly telemetry: Telemetry
  readonly logger: Logger
}

/** `deputy login`: the Unix user who calls signs in. */
export interface LoginSessions {
  /** The page on which the user signs in. */
  start(request: { tenant: string; uid: number }): Promise<{ url: string }>
  find(uid: number): Promise<{ tenant: string; user: string; expiresAt: number } | undefined>
  end(uid: number): Promise<void>
}

type Endpoint = (request: IncomingMessage, response: ServerResponse, correlationId: string) => void | Promise<void>

/** W3C Trace Context: what does not look like a traceparent is not taken over. */
const TRACEPARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

/** W3C trace context of a request, when it carries one. */
export const traceparentOf = ({ headers }: IncomingMessage): string | undefined => {
  const { traceparent } = headers
  return typeof traceparent === 'string' && TRACEPARENT.test(traceparent) ? traceparent : undefined
}

/** The one DPoP header of a request (RFC 9449 section 4.3). @throws DeputyError `proof_invalid` when there are more */
const readProof = ({ headersDistinct }: IncomingMessage): { proof?: string } => {
  const [proof, another] = headersDistinct['dpop'] ?? []
  if (another !== undefined) throw refuse('proof_invalid', { problem: 'there is more than one' })
  return proof === undefined ? {} : { proof }
}

/**
 * The local API. Its endpoints stand in one table, answered straight from `node:http`: a token request is the hot path,
 * and a router in front of it costs as much as all of the work behind it.
 */
export const createLocalApi = (deps: LocalApiDependencies): RequestListener => {
  const formOf = (request: IncomingMessage): Promise<Form> =>
    readForm(request, deps.snapshot().settings.limits.body_bytes)

  const originOf = async (request: IncomingMessage, form: Form, correlationId: string): Promise<RequestOrigin> => {
    const traceparent = traceparentOf(request)
    return {
      correlationId,
      evidence: readEvidence(request, form, await deps.peer(request)),
      ...(traceparent === undefined ? {} : { traceparent }),
    }
  }

  const sendToken = (response: ServerResponse, issued: IssuedToken, correlationId: string): void => {
    sendJson(
      response,
      200,
      {
        ...issued.fields,
        access_token: issued.token.reveal(),
        issued_token_type: issued.issuedTokenType,
        token_type: issued.tokenType,
        expires_in: issued.expiresIn,
        ...(issued.scopes.length === 0 ? {} : { scope: issued.scopes.join(' ') }),
      },
      {
        'X-Correlation-Id': correlationId,
        ...(issued.warning === undefined
          ? {}
          : { Warning: `299 deputy "${issued.warning.replace(/["\\\r\n]/g, "'")}"` }),
      },
    )
  }

  const token: Endpoint = async (request, response, correlationId) => {
    const form = await formOf(request)
    const origin = await originOf(request, form, correlationId)
    const grantType = form.required('grant_type')
    const proof = readProof(request)
    if (grantType === TOKEN_EXCHANGE_GRANT) {
      sendToken(
        response,
        await deps.exchange.exchange(origin, { ...parseTokenExchange(form), ...proof }),
        correlationId,
      )
    } else if (grantType === CLIENT_CREDENTIALS_GRANT) {
      sendToken(
        response,
        await deps.exchange.clientCredentials(origin, { ...parseTokenRequest(form), ...proof }),
        correlationId,
      )
    } else throw refuse('unsupported_grant_type', { grant_type: grantType.slice(0, 100) })
  }

  const introspect: Endpoint = async (request, response, correlationId) => {
    const form = await formOf(request)
    const origin = await originOf(request, form, correlationId)
    sendJson(response, 200, await deps.tokens.introspect(origin, new Secret(form.required('token'))))
  }

  const revoke: Endpoint = async (request, response, correlationId) => {
    const form = await formOf(request)
    const origin = await originOf(request, form, correlationId)
    await deps.tokens.revoke(origin, new Secret(form.required('token')))
    sendJson(response, 200, {})
  }

  /** GET for who needs no parameters to authenticate, POST for who does. */
  const describeServer: Endpoint = async (request, response, correlationId) => {
    const form = request.method === 'GET' ? new Form(new Map()) : await formOf(request)
    sendJson(response, 200, await deps.serverView.describe(await originOf(request, form, correlationId)))
  }
  const tools: Endpoint = async (request, response, correlationId) => {
    const form = await formOf(request)
    const origin = await originOf(request, form, correlationId)
    sendJson(response, 200, await deps.serverView.tools(origin, new Secret(form.required('subject_token'))), {
      'X-Correlation-Id': correlationId,
    })
  }

  /** The uid of the caller, by the kernel's word. A login session belongs to a Unix user, so it needs the Unix socket. */
  const uidOf = async (request: IncomingMessage): Promise<number> => {
    const peer = await deps.peer(request)
    if (peer === undefined) throw refuse('malformed_request', { problem: 'login sessions need the Unix socket' })
    return peer.uid
  }

  const startSession: Endpoint = async (request, response) => {
    const form = await formOf(request)
    sendJson(response, 200, await deps.login.start({ tenant: form.required('tenant'), uid: await uidOf(request) }))
  }
  const showSession: Endpoint = async (request, response) => {
    const session = await deps.login.find(await uidOf(request))
    sendJson(
      response,
      200,
      session === undefined
        ? { signed_in: false }
        : { signed_in: true, tenant: session.tenant, user: session.user, expires_at: session.expiresAt },
    )
  }
  const endSession: Endpoint = async (request, response) => {
    await deps.login.end(await uidOf(request))
    sendJson(response, 200, { signed_in: false })
  }

  const ready: Endpoint = async (_request, response) => {
    const { ready: isReady, checks, backends } = await deps.readiness()
    sendJson(response, isReady ? 200 : 503, { ready: isReady, checks: { ...shortened(backends), ...checks } })
  }

  /** The address that was asked: the loopback address over TCP; over the socket, whose clients make up a host, the issuer. */
  const metadataOf = async (request: IncomingMessage): Promise<object> => {
    const isSocket = (await deps.peer(request)) !== undefined
    return metadataDocument(
      isSocket
        ? deps.snapshot().settings.issuer
        : `http://${requestTargetOf(request).authority ?? hostOf(request) ?? 'localhost'}`,
      isSocket,
    )
  }

  const endpoints = new Map<string, Partial<Record<string, Endpoint>>>([
    [paths.token, { POST: token }],
    [paths.introspect, { POST: introspect }],
    [paths.revoke, { POST: revoke }],
    [paths.exec, { POST: createExecEndpoint({ ...deps.exec, form: formOf, peer: deps.peer }) }],
    [paths.server, { GET: describeServer, POST: describeServer }],
    [paths.tools, { POST: tools }],
    [paths.session, { GET: showSession, POST: startSession, DELETE: endSession }],
    [
      paths.metadata,
      {
        GET: async (request, response) => {
          sendJson(response, 200, await metadataOf(request))
        },
      },
    ],
    [
      paths.discovery,
      {
        GET: async (request, response) => {
          sendJson(response, 200, discoveryDocument(await metadataOf(request)))
        },
      },
    ],
    [
      paths.jwks,
      {
        GET: (_request, response) => {
          sendJson(response, 200, deps.jwks(), { 'Cache-Control': 'public, max-age=300' })
        },
      },
    ],
    [
      paths.health,
      {
        GET: (_request, response) => {
          sendJson(response, 200, { status: 'ok' })
        },
      },
    ],
    [paths.ready, { GET: ready }],
  ])

  const answer = async (request: IncomingMessage, response: ServerResponse, correlationId: string): Promise<void> => {
    deps.guard(request)
    assertSingleHeaders(request)
    assertNotEncoded(request)
    const { target } = requestTargetOf(request)
    const query = target.indexOf('?')
    const path = query < 0 ? target : target.slice(0, query)
    const methods = endpoints.get(path)
    if (methods === undefined) throw refuse('not_found', { path: path.slice(0, 200) })
    const endpoint = Object.hasOwn(methods, request.method ?? '') ? methods[request.method!] : undefined
    if (endpoint === undefined)
      throw refuse('method_not_allowed', { method: request.method ?? '', allowed: Object.keys(methods).join(' or ') })
    // Tokens never travel in a query string: nothing here takes one.
    if (query >= 0) throw refuse('malformed_request', { problem: 'this endpoint takes no query string' })
    const origin = { traceparent: traceparentOf(request), id: correlationId }
    await deps.trace(origin, `${request.method} ${path}`, async () => {
      await endpoint(request, response, correlationId)
    })
  }

  return (request, response) => {
    const correlationId = deps.correlationId()
    answer(request, response, correlationId).catch((thrown: unknown) => {
      const error = asDeputyError(thrown)
      if (error.code === 'internal')
        deps.logger.error({ err: error.cause, correlation_id: correlationId }, 'a request failed inside Deputy')
      else if (error.kind.status === 503)
        deps.logger.debug({ err: error, correlation_id: correlationId }, 'a request was refused for now')
      sendError(response, error, correlationId)
    })
  }
}
