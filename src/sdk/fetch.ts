import { DeputyClientError } from './error.ts'
import type { Token } from './token.ts'

export type Fetch = (input: string | URL, init?: RequestInit) => Promise<Response>

const MAX_REDIRECTS = 5
const REDIRECTS = new Set([301, 302, 303, 307, 308])

/** A body that can be sent a second time. */
const isReplayable = (body: unknown): boolean =>
  body === undefined ||
  body === null ||
  typeof body === 'string' ||
  body instanceof URLSearchParams ||
  body instanceof ArrayBuffer ||
  ArrayBuffer.isView(body) ||
  body instanceof Blob ||
  body instanceof FormData

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/
export const isLoopback = (host: string): boolean => LOOPBACK.test(host)

/** A credential goes over https, or stays on this machine. */
const assertSafe = (url: URL): void => {
  if (url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url.hostname))) return
  throw new DeputyClientError({
    reason: 'insecure_url',
    error: 'invalid_request',
    message: `A credential is not sent to ${url.protocol}//${url.host}.`,
    next: 'Use the https URL of the service.',
  })
}

const assertBearer = ({ type }: Token): void => {
  if (type.toLowerCase() === 'bearer') return
  throw new DeputyClientError({
    reason: 'not_bearer',
    error: 'invalid_request',
    message: `The credential is not a bearer token (token_type ${type}), and is not sent as one.`,
    next: 'Use deputy.token and send it as the service requires, or let the proxy put it into the request (docs/proxy.md).',
  })
}

/** The request after a redirect within one origin (Fetch standard, HTTP-redirect fetch). */
const redirected = (status: number, init: RequestInit): RequestInit => {
  const method = (init.method ?? 'GET').toUpperCase()
  if (status !== 303 && !((status === 301 || status === 302) && method === 'POST')) return init
  const { body: _, ...rest } = init
  return { ...rest, method: method === 'HEAD' ? 'HEAD' : 'GET' }
}

/**
 * A `fetch` that carries a credential. After a 401 it reports the credential to Deputy, which drops it, and tries once
 * more if there is another one. A 401 for that one is reported too: Deputy then says whether the user has to connect
 * again. A redirect to another origin is not followed: its response is what comes back.
 */
export const createFetch =
  (options: {
    /** @param rejected what the service has refused */
    token: (signal: AbortSignal | undefined, rejected?: Token) => Promise<Token>
    fetch: (url: URL, init: RequestInit) => Promise<Response>
  }): Fetch =>
  async (input, init = {}) => {
    const first = new URL(input)
    assertSafe(first)
    const signal = init.signal ?? undefined

    const send = async (token: Token): Promise<Response> => {
      assertBearer(token)
      let [url, step]: [URL, RequestInit] = [first, init]
      for (let left = init.redirect === 'manual' || init.redirect === 'error' ? 0 : MAX_REDIRECTS; ; left -= 1) {
        const headers = new Headers(step.headers)
        headers.set('authorization', `Bearer ${token.reveal()}`)
        const response = await options.fetch(url, {
          ...step,
          headers,
          redirect: init.redirect === 'error' ? 'error' : 'manual',
        })
        const location = response.headers.get('location')
        if (!REDIRECTS.has(response.status) || location === null || left <= 0) return response
        const next = new URL(location, url)
        if (next.origin !== first.origin || (!isReplayable(step.body) && redirected(response.status, step) === step))
          return response
        await response.body?.cancel()
        step = redirected(response.status, step)
        url = next
      }
    }

    const token = await options.token(signal)
    const response = await send(token)
    if (response.status !== 401) return response
    const again = await options.token(signal, token)
    if (again.reveal() === token.reveal() || !isReplayable(init.body)) return response
    await response.body?.cancel()
    const second = await send(again)
    if (second.status === 401) await options.token(signal, again)
    return second
  }
