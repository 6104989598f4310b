import type { IncomingMessage } from 'node:http'

const LOOPBACK = ['localhost', '127.0.0.1', '[::1]']

const hostnameOf = (authority: string): string | undefined => {
  const url = URL.parse(`http://${authority}`)
  return url === null || url.host !== authority.toLowerCase().replace(/:80$/, '') ? undefined : url.hostname
}

const all = ({ rawHeaders }: IncomingMessage, name: string): string[] => {
  const found: string[] = []
  for (let at = 0; at < rawHeaders.length; at += 2)
    if (rawHeaders[at]!.toLowerCase() === name) found.push(rawHeaders[at + 1]!)
  return found
}

/** The one value of a header; undefined when it is absent, or there more than once. */
export const onlyHeader = (request: IncomingMessage, name: string): string | undefined => {
  const [value, another] = all(request, name)
  return another === undefined ? value : undefined
}

/**
 * Which requests a local server answers: those sent to a name of its own, by a program, or by a page of an origin that
 * is let in. A page that has bound its name to this machine (DNS rebinding) sends another `Host`.
 * @see https://modelcontextprotocol.io/specification/2026-07-28/basic/transports
 */
export const createOriginGuard = (options: { hosts: readonly string[]; origins: readonly string[] }) => {
  const hosts = new Set([...LOOPBACK, ...options.hosts.map((host) => host.toLowerCase())])
  const origins = new Set(options.origins)
  return (request: IncomingMessage): boolean => {
    const host = onlyHeader(request, 'host')
    const name = host === undefined ? undefined : hostnameOf(host)
    if (name === undefined || !hosts.has(name)) return false
    const [origin, another] = all(request, 'origin')
    if (origin === undefined) return true
    return another === undefined && (origins.has(origin) || hosts.has(URL.parse(origin)?.hostname ?? ''))
  }
}
