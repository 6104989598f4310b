import type { IncomingMessage } from 'node:http'
import type { IssuedToken, RequestOrigin } from '#flows/exchange'
import {
  assertNoInboundToken,
  type Injected,
  methodsOf,
  passedOn,
  provingUpstream,
  putIn,
  putInBound,
  reportingUpstream,
  type Upstream,
} from '#flows/injected-request'
import type { Secret } from '#foundation/crypto'
import { traceparentOf } from '#listeners/local-api'
import { obtainFor, readCaller, type Caller, type InjectionRequest } from './caller.ts'
import type { ProxyContext } from './dependencies.ts'
import type { RelayOptions } from './relay.ts'
import { hasBody } from './request-body.ts'
import type { Route } from './route.ts'

/** A request that is ready to be sent to its service. */
export interface PreparedRequest extends Injected, RelayOptions {
  readonly origin: string
  readonly upstream: Pick<Upstream, 'send'>
  /** Whether the credential still may be used. */
  stands(): boolean
}

/** Where the credential goes, and whether it is bound to a key. */
type IssuedInjection = NonNullable<IssuedToken['injection']>

const NO_HEADERS = new Set<string>()

/** Headers by which a caller would get an answer in which the secret could not be seen: compressed, or a part of it at a time. */
const HIDING_HEADERS = new Set(['accept-encoding', 'range', 'if-range'])

/**
 * A program that forwards every header would hand the user's token to the service (threat 18).
 * @throws DeputyError `malformed_request`
 */
const assertNoToken = ({ beneficiary }: Caller, { target, headers }: Injected): void => {
  if (beneficiary === 'server') return
  const problem = "the user's token stands in it also outside of Deputy-Subject-Token, and would go to the service"
  assertNoInboundToken(beneficiary.subjectToken, [target, ...headers], problem)
}

export interface Arrived {
  readonly request: IncomingMessage
  readonly route: Route
  readonly correlationId: string
}

/** A request with its caller, and the request to the exchange. */
interface Received extends Arrived {
  readonly caller: Caller
  readonly origin: RequestOrigin
  readonly injection: InjectionRequest
}

const receive = async (arrived: Arrived, context: ProxyContext): Promise<Received> => {
  const { request, route, correlationId } = arrived
  const connect = context.tunnels.get(request.socket)?.connect
  const caller = readCaller(request, connect, await context.peer(connect ?? request), context.startedFor)
  const traceparent = traceparentOf(request)
  return {
    ...arrived,
    caller,
    origin: { correlationId, evidence: caller.evidence, ...(traceparent === undefined ? {} : { traceparent }) },
    injection: {
      downstream: route.downstream,
      injection: {
        origin: route.origin,
        methods: methodsOf(request.method!, request.rawHeaders),
        path: route.path,
      },
    },
  }
}

/** Puts the credential into the request. @throws DeputyError `injection_unsafe`, `malformed_request` */
const inject = (
  { request, caller, route: { path, query } }: Received,
  allowed: IssuedInjection,
  token: Secret,
): Injected => {
  const redact = allowed.inject.redact_response
  const put = allowed.proofKey === undefined ? putIn : putInBound
  const injected = put(token, allowed, {
    path,
    query,
    headers: passedOn(request.rawHeaders, redact ? HIDING_HEADERS : NO_HEADERS),
    hasBody: hasBody(request),
  })
  assertNoToken(caller, injected)
  if (redact) injected.headers.push('Accept-Encoding', 'identity')
  return injected
}

/** Tells the exchange that the service refused the credential, so that the next request gets another one. */
const reportRejected = (
  { caller, origin, injection, correlationId }: Received,
  token: Secret,
  context: ProxyContext,
) => {
  obtainFor(context.exchange, origin, caller, { ...injection, rejected: token }).catch((error: unknown) => {
    context.logger.info(
      { err: error, correlation_id: correlationId },
      'a service refused a credential, and no other one is available',
    )
  })
}

/** The way to the service: with a proof for each sending of a bound token, and a report of each refused credential. */
const upstreamFor = (
  received: Received,
  { proofKey, stands, origin }: IssuedInjection,
  { token, target }: { readonly token: Secret; readonly target: string },
  context: ProxyContext,
): Pick<Upstream, 'send'> => {
  const upstream =
    proofKey === undefined
      ? context.upstream
      : provingUpstream(context.upstream, {
          proofs: context.proofs,
          key: proofKey,
          request: { method: received.request.method!, url: `${origin}${target}`, accessToken: token },
          stands,
        })
  return reportingUpstream(upstream, () => {
    reportRejected(received, token, context)
  })
}

/**
 * Obtains the credential through the exchange and puts it into the request. Nothing has been sent yet.
 * @throws DeputyError of the caller, of the exchange, and of the injection
 */
export const prepare = async (arrived: Arrived, context: ProxyContext): Promise<PreparedRequest> => {
  const received = await receive(arrived, context)
  const { caller, correlationId, origin, injection } = received
  const issued = await obtainFor(context.exchange, origin, caller, injection)
  const { token, warning } = issued
  const allowed = issued.injection!
  const injected = inject(received, allowed, token)
  return {
    ...injected,
    needles: context.redactions.needlesFor(token, injected.secrets),
    origin: allowed.origin,
    upstream: upstreamFor(received, allowed, { token, target: injected.target }, context),
    stands: allowed.stands,
    redact: allowed.inject.redact_response,
    // The service's own headers cannot take these names: headers that begin with Deputy are not passed on.
    addedHeaders: [
      'Deputy-Correlation-Id',
      correlationId,
      ...(warning === undefined ? [] : ['Deputy-Warning', warning.replace(/[^\x20-\x7e]/g, '?')]),
    ],
  }
}
