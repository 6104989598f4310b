import type { IncomingMessage, RequestListener } from 'node:http'
import { asDeputyError, refuse } from '#errors'
import { sendError } from './answer.ts'

/** `http://authority/path?query` (RFC 9112 section 3.2.2), without user information and fragment. */
const ABSOLUTE = /^https?:\/\/([^/?#@\\]{1,260})([/?][^#]*)?$/i

export interface RequestTarget {
  /** The host and port that an absolute target names, in small letters. They take the place of `Host`. */
  readonly authority?: string
  /** Path and query. What is neither form stays as it came, and is the path of nothing. */
  readonly target: string
}

/** The target of a request to an origin server, whose clients may name it by its whole URL (RFC 9112 section 3.2.2). */
export const requestTargetOf = ({ url = '' }: Pick<IncomingMessage, 'url'>): RequestTarget => {
  if (url.startsWith('/')) return { target: url }
  const [, authority, rest = ''] = ABSOLUTE.exec(url) ?? []
  if (authority === undefined) return { target: url }
  return { authority: authority.toLowerCase(), target: rest.startsWith('/') ? rest : `/${rest}` }
}

/** Headers that identify the caller or decide how the body is read. Node keeps the first of two and drops the other silently. */
const SINGLE = new Set(['authorization', 'proxy-authorization', 'host', 'content-type', 'content-length'])

/**
 * Refuses a request with two headers of which one would have to be ignored (RFC 9110 section 5.3): whatever stands in
 * front of Deputy may have read the other one.
 * @throws DeputyError `malformed_request`
 */
export const assertSingleHeaders = ({ rawHeaders }: Pick<IncomingMessage, 'rawHeaders'>): void => {
  const seen = new Set<string>()
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!.toLowerCase()
    if (!SINGLE.has(name)) continue
    if (seen.has(name)) throw refuse('malformed_request', { problem: `the ${rawHeaders[at]} header was sent twice` })
    seen.add(name)
  }
}

/** Bodies are read as they come. @throws DeputyError `unsupported_content_encoding` (RFC 9110 section 8.4) */
export const assertNotEncoded = ({ headers }: Pick<IncomingMessage, 'headers'>): void => {
  const encoding = headers['content-encoding']?.trim() ?? ''
  if (encoding !== '' && encoding.toLowerCase() !== 'identity')
    throw refuse('unsupported_content_encoding', { encoding: encoding.slice(0, 100) })
}

/** Applies these rules in front of an application that knows paths only, and that judges `Host` itself where it matters. */
export const withCheckedHead =
  (application: RequestListener, correlationId: () => string): RequestListener =>
  (request, response) => {
    try {
      assertSingleHeaders(request)
      assertNotEncoded(request)
    } catch (thrown) {
      sendError(response, asDeputyError(thrown), correlationId())
      return
    }
    const { authority, target } = requestTargetOf(request)
    if (authority !== undefined) {
      request.url = target
      request.headers.host = authority
    }
    application(request, response)
  }
