import { Agent, request, type IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

/** Statuses whose response has no body (Fetch standard, null body status). */
const WITHOUT_BODY = new Set([101, 103, 204, 205, 304])

/** An agent of its own: `NODE_USE_ENV_PROXY` has Node's own ones go through the proxy of the environment. */
const agent = new Agent({ keepAlive: true })

const toResponse = (incoming: IncomingMessage, method: string): Response => {
  const headers = new Headers()
  for (let at = 0; at < incoming.rawHeaders.length; at += 2)
    headers.append(incoming.rawHeaders[at]!, incoming.rawHeaders[at + 1]!)
  const { statusCode: status = 0, statusMessage: statusText = '' } = incoming
  const isEmpty = method === 'HEAD' || WITHOUT_BODY.has(status)
  if (isEmpty) incoming.resume()
  return new Response(isEmpty ? null : (Readable.toWeb(incoming) as ReadableStream<Uint8Array>), {
    status,
    statusText,
    headers,
  })
}

/**
 * As `fetch`, straight to a service on this machine over HTTP. A proxy of the environment would get the credential in
 * clear, and has no way to the
 * service that the machine itself has not. Follows no redirect, and takes apart no compressed answer, which is not
 * asked for.
 */
export const fetchDirectly = async (url: URL, init: RequestInit): Promise<Response> => {
  // Reads method, headers and body as fetch does.
  const wanted = new Request(url, {
    ...init,
    redirect: 'manual',
    ...(init.body instanceof ReadableStream ? { duplex: 'half' } : {}),
  } as RequestInit)
  const body = wanted.body
  // What can be sent again has a length; a stream goes as it comes.
  const bytes =
    body === null || init.body instanceof ReadableStream ? undefined : Buffer.from(await wanted.arrayBuffer())
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      {
        agent,
        method: wanted.method,
        signal: wanted.signal,
        headers: {
          ...Object.fromEntries(wanted.headers),
          ...(bytes === undefined ? {} : { 'content-length': bytes.length }),
        },
      },
      (incoming) => {
        if (init.redirect === 'error' && (incoming.statusCode ?? 0) >= 300 && incoming.headers.location !== undefined) {
          incoming.destroy()
          reject(new TypeError('fetch failed: a redirect'))
          return
        }
        // Thrown here, an answer that no Response takes (status 999) would end the process.
        try {
          resolve(toResponse(incoming, wanted.method))
        } catch (error) {
          incoming.destroy()
          reject(new TypeError('fetch failed: an invalid response', { cause: error }))
        }
      },
    )
    outgoing.on('error', reject)
    outgoing.on('upgrade', (_incoming, socket) => {
      socket.destroy()
      reject(new TypeError('fetch failed: an unexpected protocol upgrade'))
    })
    if (body !== null && bytes === undefined) pipeline(Readable.fromWeb(body as never), outgoing).catch(reject)
    else outgoing.end(bytes)
  })
}

/** Whether requests of this process may go through a proxy, as the environment says. */
export const mayGoThroughProxy = (environment: Readonly<Record<string, string | undefined>>): boolean =>
  ['http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'].some((name) => (environment[name] ?? '') !== '')
