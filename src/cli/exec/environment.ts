import { z } from 'zod'
import type { ExecValue } from '#config'
import type { Secret } from '#foundation/crypto'
import { CommandError, exit } from '../terminal.ts'

const fieldsSchema = z.record(z.string(), z.unknown())
const PLACE = /\{([A-Za-z_][A-Za-z0-9_]*)\}/g
/** In a URL, an inserted value must not end the part that it is inserted into. */
const URL_FORM = /^[A-Za-z][A-Za-z0-9+.-]*:\/\//

/** A credential in the form of its mapping. @throws CommandError, whose message does not contain it */
export const valueOf = (
  { downstream, field, template }: Pick<ExecValue, 'downstream' | 'field' | 'template'>,
  credential: Secret,
): string => {
  const text = credential.reveal()
  const bad = (problem: string): CommandError =>
    new CommandError(
      exit.configuration,
      `The credential of ${downstream} ${problem}.`,
      'Correct `exec` in the file of the server; docs/exec.md shows the forms.',
    )
  const fields = (): Record<string, unknown> => {
    let parsed
    try {
      parsed = fieldsSchema.safeParse(JSON.parse(text))
    } catch {
      parsed = undefined
    }
    if (parsed?.success !== true) throw bad('is not a JSON object, so it has no fields')
    return parsed.data
  }
  const fieldOf = (name: string): string => {
    const all = fields()
    const value = Object.hasOwn(all, name) ? all[name] : undefined
    if (typeof value !== 'string' && typeof value !== 'number') throw bad(`has no field ${name}`)
    return String(value)
  }
  const encode =
    template !== undefined && URL_FORM.test(template) ? encodeURIComponent : (value: string): string => value
  const value =
    field !== undefined
      ? fieldOf(field)
      : template === undefined
        ? text
        : template.replace(PLACE, (_, name: string) => encode(name === 'token' ? text : fieldOf(name)))
  if (value.includes('\0')) throw bad('has a zero byte, which no environment variable can hold')
  return value
}

/** The caller's environment without Deputy's own variables (threat 3), and the variables of the mapping. */
export const childEnvironment = (
  caller: Readonly<Record<string, string | undefined>>,
  mapped: Readonly<Record<string, string>>,
): Record<string, string> => ({
  ...Object.fromEntries(
    Object.entries(caller).filter(
      (entry): entry is [string, string] => entry[1] !== undefined && !/^DEPUTY_/i.test(entry[0]),
    ),
  ),
  ...mapped,
})

/** In the private folder; no mapping can name it, because a path begins with a letter or digit. */
export const PROXY_CA = '.proxy-ca.pem'

/**
 * How a program finds the injecting proxy and trusts what it signs. The session's token is the password of the proxy, and the
 * server its user (RFC 7617); programs send both as `Proxy-Authorization`.
 * @param proxy.url http URL of the proxy, without user and password
 * @param proxy.ca PEM file with the proxy's authority: it answers in the place of every host that it lets through, and lets no other
 */
export const proxyEnvironment = (
  proxy: { url: string; ca: string },
  server: string,
  token: Secret,
): Record<string, string> => {
  const url = new URL(proxy.url)
  url.username = server
  url.password = token.reveal()
  const both = (name: string, value: string): Record<string, string> => ({ [name]: value, [name.toLowerCase()]: value })
  return {
    ...both('HTTPS_PROXY', url.href),
    ...both('HTTP_PROXY', url.href),
    ...both('NO_PROXY', 'localhost,127.0.0.1,::1'),
    // Node reads the variables above only with this one: https://nodejs.org/docs/latest-v24.x/api/cli.html#node_use_env_proxy1
    NODE_USE_ENV_PROXY: '1',
    NODE_EXTRA_CA_CERTS: proxy.ca,
    SSL_CERT_FILE: proxy.ca,
    REQUESTS_CA_BUNDLE: proxy.ca,
    CURL_CA_BUNDLE: proxy.ca,
    GIT_SSL_CAINFO: proxy.ca,
  }
}
