import type { Readable } from 'node:stream'
import { Agent, type Dispatcher } from 'undici'
import type { Settings } from '#config'
import { DeputyError, refuse } from '#errors'
import { type AddressRules, createConnectionGuard, type Lookup, refusedByGuard } from '#foundation/outbound'
import type { RawHeaders } from './headers.ts'

export interface UpstreamOptions extends AddressRules {
  /** ms until a connection must stand. */
  readonly connectTimeout: number
  /** ms until an answer must begin. */
  readonly answerTimeout: number
  /** ms in which something of an answer must come. */
  readonly idleTimeout: number
  readonly lookup?: Lookup
}

export interface UpstreamRequest {
  readonly origin: string
  /** Path and query. */
  readonly target: string
  readonly method: string
  readonly headers: string[]
  readonly body: Readable | Buffer | null
  /** Set: the connection is to become a WebSocket. */
  readonly upgrade?: 'websocket'
}

/** The way to the services: connections that are kept, judged like every other that Deputy makes. */
export interface Upstream {
  /** @throws DeputyError `egress_refused`; later failures come to `onResponseError` */
  send(request: UpstreamRequest, handler: Dispatcher.DispatchHandler): void
  close(): Promise<void>
}

/** HTTP/1.1, or HTTP/2 where the service prefers it. Redirects are answers like others: nothing here follows them (threat 27). */
export const createUpstream = (options: UpstreamOptions): Upstream => {
  const guard = createConnectionGuard(options)
  const agent = new Agent({
    connect: { lookup: guard.lookup, timeout: options.connectTimeout },
    headersTimeout: options.answerTimeout,
    bodyTimeout: options.idleTimeout,
  })
  // What a literal address is judged by does not change while this runs; names are resolved and judged for each connection.
  const reachable = new Map<string, string>()
  const hostOf = (origin: string): string => {
    const known = reachable.get(origin)
    if (known !== undefined) return known
    const url = new URL(origin)
    guard.assertReachable(url)
    reachable.set(origin, url.host)
    return url.host
  }
  return {
    send({ origin, target, method, headers, body, upgrade }, handler) {
      headers.push('Host', hostOf(origin))
      agent.dispatch(
        {
          origin,
          path: target,
          method,
          headers,
          body,
          // A WebSocket over HTTP/2 (RFC 8441) is offered by few; HTTP/1.1 by all.
          ...(upgrade === undefined ? {} : { upgrade, allowH2: false }),
        },
        handler,
      )
    },
    close: () => agent.destroy(),
  }
}

/** The way to the services, with the limits of the settings. */
export const createUpstreamFor = ({ network, proxy }: Pick<Settings, 'network' | 'proxy'>): Upstream =>
  createUpstream({
    allowLoopback: network.allow_loopback,
    allowPrivate: network.allow_private,
    connectTimeout: network.timeout,
    answerTimeout: proxy.answer,
    idleTimeout: proxy.idle,
  })

/** The headers of an answer as they came, or as HTTP/2 has them. */
export const rawHeadersOf = ({ rawHeaders }: Dispatcher.DispatchController): RawHeaders => {
  if (Array.isArray(rawHeaders)) return rawHeaders.map((each) => each.toString('latin1'))
  return Object.entries(rawHeaders ?? {}).flatMap(([name, value]) =>
    name.startsWith(':') || value === undefined ? [] : [value].flat().flatMap((each) => [name, each]),
  )
}

const TIMEOUTS: Readonly<Record<string, string>> = {
  UND_ERR_CONNECT_TIMEOUT: 'no connection came about',
  UND_ERR_HEADERS_TIMEOUT: 'its answer did not begin',
  UND_ERR_BODY_TIMEOUT: 'its answer stood still',
  ETIMEDOUT: 'no connection came about',
}

/** Refuses an answer in which a secret could not be seen. */
export const unreadable = (origin: string, coding: string): DeputyError =>
  refuse('upstream_unreachable', {
    host: new URL(origin).host,
    problem: `its answer is encoded as ${coding.slice(0, 40)}, in which a secret could not be seen`,
  })

/** What went wrong on the way, as an error of the taxonomy. Only the code of the client's error is shown: its message might repeat the request. */
export const upstreamError = (error: unknown, origin: string): DeputyError => {
  const refused = refusedByGuard(error)
  if (refused instanceof DeputyError) return refused
  const { code = 'it ended early' } = error as NodeJS.ErrnoException
  const { host } = new URL(origin)
  return TIMEOUTS[code] === undefined
    ? refuse('upstream_unreachable', { host, problem: code }, error)
    : refuse('upstream_timeout', { host, problem: TIMEOUTS[code] }, error)
}
