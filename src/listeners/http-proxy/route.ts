import type { IncomingMessage } from 'node:http'
import { idSchema } from '#config'
import { refuse } from '#errors'
import { assertSingleHeaders, hostOf } from '#listeners/http'

/** Where a request is to go. Nothing is authorized yet. */
export interface Route {
  /** The downstream that the reverse form names. */
  readonly downstream?: string
  /** Scheme, host and port that the forward form names. */
  readonly origin?: string
  /** As it came. */
  readonly path: string
  /** With its question mark; empty without one. */
  readonly query: string
}

/** What HTTP lets stand in a request target (RFC 9112 section 3.2): no fragment, nothing that is not ASCII. */
const TARGET = /^\/[!"$-~]*$/

const REVERSE = /^\/d\/([^/?]*)(.*)$/

const split = (target: string): Pick<Route, 'path' | 'query'> => {
  const whole = target.startsWith('/') ? target : `/${target}`
  if (!TARGET.test(whole))
    throw refuse('malformed_request', { problem: 'the request target has characters that no URL may contain' })
  const at = whole.indexOf('?')
  return at < 0 ? { path: whole, query: '' } : { path: whole.slice(0, at), query: whole.slice(at) }
}

/** A name of 253 characters, and a port. */
const ABSOLUTE = /^(https?:)\/\/([^/?#@\\]{1,260})(.*)$/i

/**
 * Which form a request has: inside a tunnel, absolute (RFC 9112 section 3.2.2), or `/d/<downstream>/…`. The last one is
 * the only one that a web page could send, so it has to name this very port as its host (promise 10).
 * @param tunnel the origin of the tunnel that it came through
 * @param hosts the hosts under which the proxy itself is known
 * @throws DeputyError `foreign_caller`, `malformed_request`, `not_found`
 */
export const routeOf = (request: IncomingMessage, tunnel: string | undefined, hosts: ReadonlySet<string>): Route => {
  const { url = '' } = request
  const host = hostOf(request)
  assertSingleHeaders(request)
  if (tunnel !== undefined) {
    if (!url.startsWith('/'))
      throw refuse('malformed_request', { problem: 'a request inside a tunnel names only a path' })
    return { origin: tunnel, ...split(url) }
  }
  const [, scheme, authority, rest] = ABSOLUTE.exec(url) ?? []
  if (scheme !== undefined && authority !== undefined) {
    const named = URL.parse(`${scheme}//${authority}`)
    if (named === null) throw refuse('malformed_request', { problem: 'the host of the request is not valid' })
    if (host !== undefined && host !== authority.toLowerCase() && host !== named.host)
      throw refuse('foreign_caller', { header: 'foreign Host' })
    return { origin: named.origin, ...split(rest!) }
  }
  if (host === undefined || !hosts.has(host)) throw refuse('foreign_caller', { header: 'foreign Host' })
  const [, downstream, below] = REVERSE.exec(url) ?? []
  if (downstream === undefined || !idSchema.safeParse(downstream).success)
    throw refuse('not_found', { path: url.split('?', 1)[0]!.slice(0, 200) })
  return { downstream, ...split(below!) }
}

/**
 * The origin that a CONNECT request asks for (RFC 9110 section 9.3.6): inside the tunnel is TLS. Older clients send no `Host`.
 * @throws DeputyError `foreign_caller`, `malformed_request`
 */
export const tunnelOf = (request: IncomingMessage): string => {
  const authority = (request.url ?? '').toLowerCase()
  const named = /^[^/?#@\\]{1,254}:\d{1,5}$/.test(authority) ? URL.parse(`https://${authority}`) : null
  if (named === null || (named.port === '' && !authority.endsWith(':443')))
    throw refuse('malformed_request', { problem: 'CONNECT names host:port' })
  const host = hostOf(request)
  assertSingleHeaders(request)
  if (host !== undefined && host !== authority && host !== named.hostname && host !== named.host)
    throw refuse('foreign_caller', { header: 'foreign Host' })
  return named.origin
}
