import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { asDeputyError } from '#errors'
import { RedactionCache } from '#flows/injected-request'
import { type ConnectionHandlers, createCallerGuard } from '#listeners/http'
import { traceparentOf } from '#listeners/local-api'
import { isForward, refuseConnection, sendRefusal } from './answer.ts'
import { asRefusal, type ProxyContext, type ProxyDependencies } from './dependencies.ts'
import { prepare } from './prepare.ts'
import { relay } from './relay.ts'
import { arrivalOf, bodyOf } from './request-body.ts'
import { routeOf } from './route.ts'
import { answerConnect } from './tunnels.ts'
import { relayUpgrade } from './websocket.ts'

export type { ProxyDependencies } from './dependencies.ts'

/** The handlers of a listener. */
export interface Proxy extends ConnectionHandlers {
  readonly onRequest: RequestListener
}

/** Path of the authority's certificate. */
const CERTIFICATE_PATH = '/ca.pem'

/** How often an open exchange is checked against revocations (ms). */
const VALIDITY_INTERVAL_MS = 1000

/** Ends a response or connection once a revocation covers it (promise 4). */
const endUnless = (stands: () => boolean, open: ServerResponse | Duplex): void => {
  const interval = setInterval(() => {
    if (!stands()) open.destroy()
  }, VALIDITY_INTERVAL_MS)
  open.once('close', () => {
    clearInterval(interval)
  })
}

interface Exchanged {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly correlationId: string
}

/** @param sendContinue sends 100 Continue to a client that waits for it; undefined when it does not wait */
const forward = async (
  { request, response, correlationId }: Exchanged,
  sendContinue: (() => void) | undefined,
  context: ProxyContext,
): Promise<void> => {
  const route = routeOf(request, context.tunnels.get(request.socket)?.origin, context.hosts)
  const arrived = sendContinue === undefined ? await arrivalOf(request) : undefined
  const { origin, target, headers, body, upstream, stands, ...options } = await prepare(
    { request, route, correlationId },
    context,
  )
  if (response.destroyed) return
  sendContinue?.()
  endUnless(stands, response)
  await relay(
    upstream,
    { origin, target, method: request.method!, headers, body: bodyOf(request, arrived, body) },
    { request, response },
    options,
  )
}

/** The certificate is public: programs that may not read Deputy's folder fetch it here. */
const sendCertificate = (
  { request, response }: Pick<Exchanged, 'request' | 'response'>,
  guard: (request: IncomingMessage) => void,
  { authority, correlationId, patience }: ProxyContext,
): void => {
  try {
    guard(request)
  } catch (thrown) {
    sendRefusal(response, asDeputyError(thrown), correlationId(), { isForward: false, isWaiting: false, patience })
    return
  }
  request.resume()
  response.writeHead(200, { 'Content-Type': 'application/x-pem-file' }).end(authority.certificate)
}

/** @param waits whether the client waits for 100 Continue before it sends the body (RFC 9110 section 10.1.1) */
const answerRequest = (exchanged: Exchanged, waits: boolean, context: ProxyContext): void => {
  const { request, response, correlationId } = exchanged
  let isWaiting = waits
  const sendContinue = (): void => {
    isWaiting = false
    response.writeContinue()
  }
  context
    .trace({ traceparent: traceparentOf(request), id: correlationId }, `proxy ${request.method}`, () =>
      forward(exchanged, waits ? sendContinue : undefined, context),
    )
    .catch((thrown: unknown) => {
      sendRefusal(response, asRefusal(thrown, correlationId, context), correlationId, {
        isForward: isForward(request, context.tunnels.has(request.socket)),
        isWaiting,
        patience: context.patience,
      })
    })
}

const answerUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer, context: ProxyContext): void => {
  const correlationId = context.correlationId()
  socket.on('error', () => {
    socket.destroy()
  })
  context
    .trace({ traceparent: traceparentOf(request), id: correlationId }, 'proxy upgrade', async () => {
      const route = routeOf(request, context.tunnels.get(request.socket)?.origin, context.hosts)
      const { origin, target, headers, upstream, stands, ...options } = await prepare(
        { request, route, correlationId },
        context,
      )
      if (socket.destroyed) return
      endUnless(stands, socket)
      await relayUpgrade(
        upstream,
        { origin, target, method: 'GET', headers, body: null, upgrade: 'websocket' },
        { socket, head },
        { ...options, idleTimeout: context.idleTimeout, patience: context.patience },
      )
    })
    .catch((thrown: unknown) => {
      refuseConnection(socket, asRefusal(thrown, correlationId, context), correlationId, {
        isForward: isForward(request, context.tunnels.has(request.socket)),
        patience: context.patience,
      })
    })
}

/**
 * The injecting proxy: who may use it (`caller.ts`, and the exchange, whose line every request takes), where it may go
 * (`route.ts`, `exchange/injection.ts`), how the credential is put in (`prepare.ts`, `injection.ts`). The answer comes back
 * through `relay.ts`.
 * @param hosts the hosts under which its listener is known
 */
export const createProxy = (deps: ProxyDependencies, hosts: ReadonlySet<string>): Proxy => {
  const context: ProxyContext = { ...deps, hosts, tunnels: new WeakMap(), redactions: new RedactionCache() }
  const guard = createCallerGuard(hosts)
  const answer = (request: IncomingMessage, response: ServerResponse, waits: boolean): void => {
    if (request.url === CERTIFICATE_PATH && !context.tunnels.has(request.socket))
      sendCertificate({ request, response }, guard, context)
    else answerRequest({ request, response, correlationId: deps.correlationId() }, waits, context)
  }
  return {
    onRequest(request, response) {
      answer(request, response, false)
    },
    onCheckContinue(request, response) {
      answer(request, response, true)
    },
    onConnect(request, socket, head, adopt) {
      answerConnect(request, { socket, head }, adopt, context)
    },
    onUpgrade(request, socket, head) {
      answerUpgrade(request, socket, head, context)
    },
  }
}
