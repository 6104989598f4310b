import type { IncomingMessage } from 'node:http'
import { refuse } from '#errors'
import { requestTargetOf } from './request-head.ts'

/**
 * The `Host` that a request names, in small letters, unless a web page has sent it (promise 10, threat 1). A page
 * reaches a local port through the user's browser, and then the request carries an `Origin`, or the browser's own
 * `Sec-Fetch-Site`; local programs send neither. Looks at the raw headers, because a parsed view folds repeated ones together.
 * @throws DeputyError `foreign_caller`
 */
export const hostOf = ({ rawHeaders }: IncomingMessage): string | undefined => {
  let host: string | undefined
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!
    // Only names of these lengths matter: host, origin, sec-fetch-site.
    if (name.length !== 4 && name.length !== 6 && name.length !== 14) continue
    const lower = name.toLowerCase()
    if (lower === 'origin') throw refuse('foreign_caller', { header: 'Origin' })
    if (lower === 'sec-fetch-site') throw refuse('foreign_caller', { header: 'Sec-Fetch-Site' })
    if (lower !== 'host') continue
    if (host !== undefined) throw refuse('foreign_caller', { header: 'second Host' })
    host = rawHeaders[at + 1]!.toLowerCase()
  }
  return host
}

/**
 * Keeps web pages away from the local API: what `hostOf` refuses, and by DNS rebinding a foreign `Host`. Local programs
 * send the host that they were configured with. The authority of an absolute target has to be an allowed host as well.
 * @throws DeputyError `foreign_caller`
 */
export const createCallerGuard =
  (hosts: ReadonlySet<string>) =>
  (request: IncomingMessage): void => {
    const host = hostOf(request)
    const { authority = host } = requestTargetOf(request)
    if (host === undefined || !hosts.has(host) || !hosts.has(authority!))
      throw refuse('foreign_caller', { header: 'foreign Host' })
  }

const LOOPBACK = ['localhost', '127.0.0.1', '[::1]']

/** Hosts under which the local API answers on a TCP port: the loopback names with exactly that port. */
export const tcpHosts = (port: number): ReadonlySet<string> => new Set(LOOPBACK.map((name) => `${name}:${port}`))

/** Hosts under which it answers on a Unix socket, where clients make one up: the loopback names, and that of the issuer. */
export const socketHosts = (issuer: string): ReadonlySet<string> => new Set([...LOOPBACK, new URL(issuer).host])
