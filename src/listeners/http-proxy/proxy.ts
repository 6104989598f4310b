import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { CurrentSnapshot, Snapshot } from '#config'
import { asDeputyError, type DeputyError, refuse } from '#errors'
import type { Exchange, IssuedToken } from '#flows/exchange'
import type { AuditLog } from '#foundation/audit'
import type { Secret } from '#foundation/crypto'
import type { Proofs } from '#foundation/outbound'
import type { Logger } from '#foundation/telemetry'
import type { Attest, ExecSessions, PeerProcess } from '#identity/workload'
import { type ConnectionHandlers, createCallerGuard } from '#listeners/http'
import { traceparentOf } from '#listeners/local-api'
import { isForward, refuseConnection, sendRefusal } from './answer.ts'
import type { Authority } from './authority.ts'
import { provingUpstream } from './bound.ts'
import { obtainFor, readCaller, readEvidence, type Caller } from './caller.ts'
import { formsOf } from './forms.ts'
import { methodsOf, passedOn } from './headers.ts'
import { putIn, putInBound, type Injected } from './injection.ts'
import { arrivalOf, bodyOf, hasBody, HIDING, relay, type Relay } from './relay.ts'
import { reportingUpstream } from './refusals.ts'
import { needlesOf, type Needles } from './rewriter.ts'
import { routeOf, tunnelOf, type Route } from './route.ts'
import { openTunnel, type Tunnel } from './tunnel.ts'
import type { Upstream } from './upstream.ts'
import { relayUpgrade } from './websocket.ts'

export interface ProxyDependencies {
  readonly snapshot: CurrentSnapshot
  readonly exchange: Exchange
  readonly attest: Attest
  /** For whom `deputy exec` has started the caller; undefined for others. */
  readonly startedFor: ExecSessions['startedFor']
  readonly audit: AuditLog
  readonly upstream: Upstream
  /** Of the keys that tokens are bound to. */
  readonly proofs: Proofs
  readonly authority: Authority
  /** Who is at the other end of the connection; undefined over TCP. */
  readonly peer: (request: IncomingMessage) => Promise<PeerProcess | undefined>
  /** Runs a request as a span that follows the caller's. */
  readonly trace: <T>(
    origin: { traceparent: string | undefined; id: string },
    name: string,
    work: () => Promise<T>,
  ) => Promise<T>
  readonly correlationId: () => string
  readonly logger: Logger
  /** ms in which nothing comes or goes on a WebSocket. */
  readonly idleTimeout: number
  /** ms for the rest of the body of a request that is refused, for TLS in a tunnel, and to read the end of a connection. */
  readonly patience: number
}

/** What a listener does with what comes to it. */
export interface Proxy extends ConnectionHandlers {
  readonly onRequest: RequestListener
}

/** What is about to be sent to the service. */
interface Prepared extends Injected, Relay {
  readonly origin: string
  readonly way: Pick<Upstream, 'send'>
  stands(): boolean
}

/** How often what is open is asked whether it still may be (ms). */
const LOOK = 1000

/** Ends what a revocation covers while it is open (promise 4). */
const endUnless = (stands: () => boolean, open: ServerResponse | Duplex): void => {
  const look = setInterval(() => {
    if (!stands()) open.destroy()
  }, LOOK)
  open.once('close', () => {
    clearInterval(look)
  })
}

/**
 * The injecting proxy: who may use it (`caller.ts`, and the exchange, whose line every request takes), where it may go
 * (`route.ts`, `exchange/injection.ts`), how the credential is put in (`injection.ts`). What comes back is `relay.ts`.
 * @param hosts the hosts under which its listener is known
 */
export const createProxy = (deps: ProxyDependencies, hosts: ReadonlySet<string>): Proxy => {
  const tunnels = new WeakMap<object, Tunnel>()
  /** A credential out of the cache is the same object again: its forms are made once. */
  const known = new WeakMap<Secret, { secrets: readonly string[]; needles: Needles }>()
  const needlesFor = (token: Secret, secrets: readonly string[]): Needles => {
    const found = known.get(token)
    if (
      found !== undefined &&
      secrets.every((secret, at) => found.secrets[at] === secret) &&
      found.secrets.length === secrets.length
    )
      return found.needles
    const needles = needlesOf(formsOf(secrets))
    known.set(token, { secrets, needles })
    return needles
  }

  /** The line of the exchange, and what it issued put into the request. Nothing has left yet. */
  const prepare = async (request: IncomingMessage, route: Route, correlationId: string): Promise<Prepared> => {
    const connect = tunnels.get(request.socket)?.connect
    const caller = readCaller(request, connect, await deps.peer(connect ?? request), deps.startedFor)
    const traceparent = traceparentOf(request)
    const origin = { correlationId, evidence: caller.evidence, ...(traceparent === undefined ? {} : { traceparent }) }
    const target = {
      origin: route.origin,
      methods: methodsOf(request.method!, request.rawHeaders),
      path: route.path,
    }
    const { injection, token, warning }: IssuedToken = await obtainFor(
      deps.exchange,
      origin,
      caller,
      route.downstream,
      target,
    )
    const {
      inject: { redact_response: strike },
      origin: service,
      proofKey: key,
      stands,
    } = injection!
    const put = key === undefined ? putIn : putInBound
    const injected = put(token, injection!, {
      path: route.path,
      query: route.query,
      headers: passedOn(request.rawHeaders, strike ? HIDING : NONE),
      hasBody: hasBody(request),
    })
    assertNoInboundToken(caller, injected)
    if (strike) injected.headers.push('Accept-Encoding', 'identity')
    // The service's own headers cannot take these names: what begins with Deputy is not passed on.
    const ours = [
      'Deputy-Correlation-Id',
      correlationId,
      ...(warning === undefined ? [] : ['Deputy-Warning', warning.replace(/[^\x20-\x7e]/g, '?')]),
    ]
    const way =
      key === undefined
        ? deps.upstream
        : provingUpstream(deps.upstream, {
            proofs: deps.proofs,
            key,
            request: { method: request.method!, url: `${service}${injected.target}`, accessToken: token },
            stands,
          })
    const report = (): void => {
      obtainFor(deps.exchange, origin, caller, route.downstream, { ...target, rejected: token }).catch(
        (error: unknown) => {
          deps.logger.info(
            { err: error, correlation_id: correlationId },
            'a service refused a credential, and no other could be had',
          )
        },
      )
    }
    return {
      ...injected,
      needles: needlesFor(token, injected.secrets),
      origin: service,
      way: reportingUpstream(way, report),
      stands,
      strike,
      ours,
    }
  }

  const forward = async (
    request: IncomingMessage,
    response: ServerResponse,
    correlationId: string,
    goOn: (() => void) | undefined,
  ): Promise<void> => {
    const route = routeOf(request, tunnels.get(request.socket)?.origin, hosts)
    const arrived = goOn === undefined ? await arrivalOf(request) : undefined
    const { origin, target, headers, body, needles, strike, ours, way, stands } = await prepare(
      request,
      route,
      correlationId,
    )
    if (response.destroyed) return
    goOn?.()
    endUnless(stands, response)
    await relay(
      way,
      { origin, target, method: request.method!, headers, body: bodyOf(request, arrived, body) },
      request,
      response,
      { needles, strike, ours },
    )
  }

  const told = (thrown: unknown, correlationId: string): DeputyError => {
    const error = asDeputyError(thrown)
    if (error.code === 'internal')
      deps.logger.error({ err: error.cause, correlation_id: correlationId }, 'a request failed inside the proxy')
    else if (error.kind.status === 503)
      deps.logger.debug({ err: error, correlation_id: correlationId }, 'a request was refused for now')
    return error
  }

  const guard = createCallerGuard(hosts)
  /** It is public: programs that may not read Deputy's folder get it here. */
  const sendCertificate = (request: IncomingMessage, response: ServerResponse): void => {
    try {
      guard(request)
    } catch (thrown) {
      sendRefusal(response, asDeputyError(thrown), deps.correlationId(), {
        isForward: false,
        isWaiting: false,
        patience: deps.patience,
      })
      return
    }
    request.resume()
    response.writeHead(200, { 'Content-Type': 'application/x-pem-file' }).end(deps.authority.certificate)
  }

  /** @param waits whether the client waits to be told before it sends the body (RFC 9110 section 10.1.1) */
  const answer = (request: IncomingMessage, response: ServerResponse, waits: boolean): void => {
    if (request.url === CERTIFICATE && !tunnels.has(request.socket)) {
      sendCertificate(request, response)
      return
    }
    const correlationId = deps.correlationId()
    let isWaiting = waits
    const goOn = waits
      ? (): void => {
          isWaiting = false
          response.writeContinue()
        }
      : undefined
    deps
      .trace({ traceparent: traceparentOf(request), id: correlationId }, `proxy ${request.method}`, () =>
        forward(request, response, correlationId, goOn),
      )
      .catch((thrown: unknown) => {
        sendRefusal(response, told(thrown, correlationId), correlationId, {
          isForward: isForward(request, tunnels.has(request.socket)),
          isWaiting,
          patience: deps.patience,
        })
      })
  }

  /** Who may have a tunnel: a server one of whose downstreams has the host. What goes through it is asked about by itself. */
  const admit = async (request: IncomingMessage, correlationId: string): Promise<string> => {
    const origin = tunnelOf(request)
    if (tunnels.has(request.socket)) throw refuse('malformed_request', { problem: 'there is a tunnel already' })
    const snapshot = deps.snapshot()
    const { server } = await deps.attest(readEvidence(request, await deps.peer(request)), snapshot)
    if (hasHost(snapshot, [...Object.keys(server.downstreams), ...Object.keys(server.service_downstreams)], origin))
      return origin
    const error = refuse('injection_host_unknown', { host: origin, server: server.server })
    await deps.audit.append({
      id: correlationId,
      event: 'proxy.connect',
      outcome: 'refused',
      server: server.server,
      detail: { host: origin, error: { code: error.code, message: error.message, next: error.next } },
    })
    throw error
  }

  return {
    onRequest(request, response) {
      answer(request, response, false)
    },
    onCheckContinue(request, response) {
      answer(request, response, true)
    },

    onConnect(request, socket, head, adopt) {
      const correlationId = deps.correlationId()
      socket.on('error', () => {
        socket.destroy()
      })
      admit(request, correlationId)
        .then(async (origin) => {
          const context = await deps.authority.contextFor(new URL(origin).hostname.replace(/^\[|\]$/g, ''))
          if (socket.destroyed) return
          const inside = openTunnel(socket, head, context, deps.patience)
          tunnels.set(inside, { origin, connect: request })
          adopt(inside)
        })
        .catch((thrown: unknown) => {
          refuseConnection(socket, told(thrown, correlationId), correlationId, {
            isForward: true,
            patience: deps.patience,
          })
        })
    },

    onUpgrade(request, socket, head) {
      const correlationId = deps.correlationId()
      socket.on('error', () => {
        socket.destroy()
      })
      deps
        .trace({ traceparent: traceparentOf(request), id: correlationId }, 'proxy upgrade', async () => {
          const { origin, target, headers, needles, strike, ours, way, stands } = await prepare(
            request,
            routeOf(request, tunnels.get(request.socket)?.origin, hosts),
            correlationId,
          )
          if (socket.destroyed) return
          endUnless(stands, socket)
          await relayUpgrade(
            way,
            { origin, target, method: 'GET', headers, body: null, upgrade: 'websocket' },
            socket,
            head,
            { needles, strike, ours, idleTimeout: deps.idleTimeout, patience: deps.patience },
          )
        })
        .catch((thrown: unknown) => {
          refuseConnection(socket, told(thrown, correlationId), correlationId, {
            isForward: isForward(request, tunnels.has(request.socket)),
            patience: deps.patience,
          })
        })
    },
  }
}

/** Where the certificate of the authority is. */
const CERTIFICATE = '/ca.pem'

const NONE = new Set<string>()

const hasHost = ({ downstreams }: Snapshot, ids: readonly string[], origin: string): boolean =>
  ids.some((id) => downstreams.get(id)?.inject?.hosts.includes(origin) === true)

/** The user's token is for this server and for nobody behind it (threat 18): a program that passes on whatever it got would hand it out. */
const assertNoInboundToken = ({ beneficiary }: Caller, { target, headers }: Injected): void => {
  if (beneficiary === 'server') return
  const token = beneficiary.subjectToken.reveal()
  if (token.length >= LEAST_TOKEN && [target, ...headers].some((text) => text.includes(token)))
    throw refuse('malformed_request', {
      problem: "the user's token stands in it also outside of Deputy-Subject-Token, and would go to the service",
    })
}

/** Shorter than any token, longer than the word that stands for a login session. */
const LEAST_TOKEN = 16
