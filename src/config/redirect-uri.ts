/** Hosts that only programs of the user's own machine answer at (RFC 8252 section 7.3). */
export const LOOPBACK_HOSTS: ReadonlySet<string> = new Set(['localhost', '127.0.0.1', '[::1]'])

const MAX_LENGTH = 2000

/** Schemes with which a browser runs or reads something itself, instead of handing it to a program. */
const BROWSER_SCHEMES = new Set([
  'about:',
  'blob:',
  'data:',
  'file:',
  'filesystem:',
  'ftp:',
  'javascript:',
  'mailto:',
  'vbscript:',
  'view-source:',
  'ws:',
  'wss:',
])

/**
 * What is wrong with a redirect URI of a client. An answer goes to an https address, to a port of the user's own machine, or to the
 * program that has a private-use scheme there: one with a period, as RFC 8252 section 7.1 wants it, or one that the settings name.
 * @param schemes schemes without a period that count, or `*`
 * @returns a clause; undefined when it may be registered
 */
export const redirectUriProblem = (uri: string, schemes: readonly string[] | '*'): string | undefined => {
  if (uri.length > MAX_LENGTH) return `it is longer than ${MAX_LENGTH} characters`
  if (!/^[\x21-\x7e]+$/.test(uri) || /[\\"<>`{}|^]/.test(uri)) return 'it has a character that no URI has'
  const url = URL.parse(uri)
  if (url === null) return 'it is no absolute URI'
  if (uri.includes('#')) return 'it has a fragment'
  if (url.username !== '' || url.password !== '' || /^[^/?]*:\/\/[^/?]*@/.test(uri)) return 'it has a user name'
  if (uri.includes('*')) return 'it has a wildcard, and addresses are compared as they are'
  if (['https:', 'http:'].includes(url.protocol) && !/^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)$/.test(url.hostname))
    return 'its host has a character that no host has'
  if (url.protocol === 'https:')
    return LOOPBACK_HOSTS.has(url.hostname) ? "programs on the user's machine are reached with http" : undefined
  if (url.protocol === 'http:')
    return LOOPBACK_HOSTS.has(url.hostname) ? undefined : "only ports of the user's own machine are reached with http"
  const scheme = url.protocol.slice(0, -1)
  if (BROWSER_SCHEMES.has(url.protocol)) return `the browser itself acts on ${scheme}`
  if (schemes === '*' || scheme.includes('.') || schemes.includes(scheme)) return undefined
  return `the scheme ${scheme} has no period and is not among clients.redirect_schemes`
}
