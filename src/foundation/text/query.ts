/**
 * The name of a pair of a query string, as forms write it (https://url.spec.whatwg.org/#urlencoded-parsing); undefined
 * where it cannot be decoded.
 */
const nameOf = (pair: string): string | undefined => {
  try {
    return decodeURIComponent(pair.split('=', 1)[0]!.replaceAll('+', ' '))
  } catch {
    return undefined
  }
}

const pairsOf = (query: string): string[] =>
  query
    .slice(1)
    .split('&')
    .filter((pair) => pair !== '')

/** The value of a query parameter, as it is written. @param query with its question mark, or empty */
export const queryValue = (query: string, name: string): string | undefined =>
  pairsOf(query)
    .find((pair) => nameOf(pair) === name)
    ?.split('=')[1]

/**
 * A query with one parameter in the place of all of its name; the others stay as they are written.
 * @param query with its question mark, or empty
 */
export const withParameter = (query: string, name: string, value: string): string => {
  const others = pairsOf(query).filter((pair) => nameOf(pair) !== name)
  return `?${[...others, `${encodeURIComponent(name)}=${encodeURIComponent(value)}`].join('&')}`
}
