/** Headers that are for Deputy only: they are not forwarded. */
export const isForDeputy = (name: string): boolean => name.startsWith('deputy-') || name.startsWith('proxy-')

/** Headers of one connection (RFC 9110 section 7.6.1), and headers that the proxy decides: the host, and whether the caller waits before it sends its body. */
const OF_THE_CONNECTION = new Set([
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'host',
  'expect',
  'http2-settings',
])

/** By these a service may take a request for another path than the one that was judged. */
const OTHER_PATHS = new Set(['x-original-url', 'x-rewrite-url'])

/** By these a service may take a request for another method: judged with it. */
const OTHER_METHODS = new Set(['x-http-method-override', 'x-http-method', 'x-method-override'])

/** A list of headers as node and undici write it: name, value, name, value. */
export type RawHeaders = readonly string[]

/** Each header once, with its name in small letters. */
export function* each(raw: RawHeaders): Generator<readonly [lower: string, name: string, value: string]> {
  for (let at = 0; at < raw.length; at += 2) yield [raw[at]!.toLowerCase(), raw[at]!, raw[at + 1]!]
}

/** The headers without those of these names, which are in small letters. */
export const without = (raw: RawHeaders, names: ReadonlySet<string>): string[] =>
  [...each(raw)].filter(([lower]) => !names.has(lower)).flatMap(([, name, value]) => [name, value])

/** What `Connection` names belongs to the connection as well; the length of a body does not, whatever it says. */
const namedByConnection = (raw: RawHeaders): ReadonlySet<string> => {
  const named = new Set<string>()
  for (const [lower, , value] of each(raw))
    if (lower === 'connection') for (const name of value.toLowerCase().split(',')) named.add(name.trim())
  named.delete('content-length')
  return named
}

/** The methods that a service may take the request for. */
export const methodsOf = (method: string, raw: RawHeaders): string[] => [
  method,
  ...[...each(raw)].filter(([lower]) => OTHER_METHODS.has(lower)).map(([, , value]) => value.trim().toUpperCase()),
]

/**
 * What is forwarded to the other side, of a request as of an answer: nothing of this connection, and nothing that is between
 * the caller and Deputy. An answer of the service cannot pass for one of the proxy either.
 * @param without further names, in small letters
 */
export const passedOn = (raw: RawHeaders, without: ReadonlySet<string>): string[] => {
  const named = namedByConnection(raw)
  const kept: string[] = []
  for (const [lower, name, value] of each(raw)) {
    if (
      OF_THE_CONNECTION.has(lower) ||
      OTHER_PATHS.has(lower) ||
      isForDeputy(lower) ||
      named.has(lower) ||
      without.has(lower)
    )
      continue
    kept.push(name, value)
  }
  return kept
}
