import { fetch as undiciFetch, type RequestInit as UndiciInit } from 'undici'
import { refuse } from '#errors'
import type { AddressRules } from './address.ts'
import { Agents } from './agents.ts'
import type { Egress, EgressInit } from './egress.ts'
import { createRouter, type HostRoute } from './hosts.ts'
import { createConnectionGuard, refusedByGuard, type Lookup } from './guard.ts'

export interface EgressOptions extends AddressRules {
  /** Time until the answer must be complete, with its body (ms). */
  readonly timeout: number
  /** Certificate authorities (PEM) instead of those of the system. */
  readonly ca?: string
  /** Hosts that are reached at another address, or with certificates of a private authority. */
  readonly routes?: readonly HostRoute[]
  readonly lookup?: Lookup
  /** W3C trace context to send along, so that a trace reaches the provider. */
  readonly traceparent?: () => string | undefined
}

/** The longest answer that is read, where the caller names no other. */
const MAX_BYTES = 1_048_576

/** Headers that may follow a redirect to another origin: none of them identifies the caller. */
const PUBLIC_HEADERS = new Set(['accept', 'accept-language', 'content-type', 'user-agent'])

/** Null body statuses of the Fetch standard. */
const NO_BODY = new Set([204, 205, 304])

const REDIRECTS = new Set([301, 302, 303, 307, 308])

/** A `fetch` with a guard: each hop is judged, and connected to as it was judged. */
export const createEgress = (options: EgressOptions): Egress & { close(): Promise<void> } => {
  const guard = createConnectionGuard(options)
  const router = createRouter(options.routes ?? [])
  const agents = new Agents({ lookup: guard.lookup, ca: options.ca })

  const once = async (url: URL, init: EgressInit, signal: AbortSignal): Promise<Response> => {
    const target = router.to(url)
    guard.assertReachable(target)
    const { redirects: _r, timeout: _t, maxBytes = MAX_BYTES, certificate, ...rest } = init
    const headers = new Headers(init.headers)
    const traceparent = options.traceparent?.()
    if (traceparent !== undefined) headers.set('traceparent', traceparent)
    try {
      const response = await undiciFetch(target, {
        ...rest,
        headers,
        signal,
        redirect: 'manual',
        dispatcher: agents.for(url, certificate, router.authoritiesOf(url)),
      } as unknown as UndiciInit)
      return await bounded(response as unknown as Response, maxBytes, url)
    } catch (error) {
      // What the connector refused arrives as the cause of fetch's own error.
      throw refusedByGuard(error) ?? error
    }
  }

  const egress: Egress = async (input, init = {}) => {
    let url = new URL(input)
    let step: EgressInit = init
    const signal = AbortSignal.any([
      AbortSignal.timeout(Math.max(1, Math.round(init.timeout ?? options.timeout))),
      ...(init.signal == null ? [] : [init.signal]),
    ])
    for (let left = init.redirects ?? 0; ; left -= 1) {
      const response = await once(url, step, signal)
      const location = response.headers.get('location')
      if (!REDIRECTS.has(response.status) || location === null || left <= 0) return response
      const next = new URL(location, url)
      step = afterRedirect(response.status, step, next.origin === url.origin)
      url = next
    }
  }
  return Object.assign(egress, { close: () => agents.close() })
}

/** The request that follows a redirect (Fetch standard, HTTP-redirect fetch); to another origin it carries nothing that was put in. */
const afterRedirect = (status: number, init: EgressInit, sameOrigin: boolean): EgressInit => {
  const given = new Headers(init.headers)
  const headers = sameOrigin ? given : new Headers([...given].filter(([name]) => PUBLIC_HEADERS.has(name)))
  const method = (init.method ?? 'GET').toUpperCase()
  const becomesGet = status === 303 || ((status === 301 || status === 302) && method === 'POST')
  if (!becomesGet && !sameOrigin && init.body != null)
    throw refuse('egress_refused', { url: 'a redirect', problem: 'it would carry the request body to another origin' })
  const { certificate, body, ...rest } = init
  const carried = sameOrigin && certificate !== undefined ? { certificate } : {}
  return becomesGet
    ? { ...rest, ...carried, method: 'GET', headers }
    : { ...rest, ...carried, ...(body === undefined ? {} : { body }), headers }
}

/** The response with its body read whole, or an error when it is longer than allowed. */
const bounded = async (response: Response, maxBytes: number, url: URL): Promise<Response> => {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += (chunk as Uint8Array).length
    if (size > maxBytes)
      throw refuse('egress_refused', {
        url: `${url.protocol}//${url.host}`,
        problem: `its answer is longer than ${maxBytes} bytes`,
        answered: 'yes',
      })
    chunks.push(chunk as Uint8Array)
  }
  const body = NO_BODY.has(response.status) ? null : Buffer.concat(chunks)
  return new Response(body, { status: response.status, statusText: response.statusText, headers: response.headers })
}
