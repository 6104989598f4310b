import { z } from 'zod'
import { CREDENTIAL, type InjectionWay } from '#config'
import { refuse } from '#errors'
import type { AllowedInjection } from '#flows/exchange'
import type { Secret } from '#foundation/crypto'
import { withParameter } from '#foundation/text'
import { each, without, type RawHeaders } from './headers.ts'
import { createReplacement, type Rewriter } from './rewriter.ts'

/** Headers that a changed body makes untrue, and those that prove one sending only. */
const [LENGTH, PROOF] = [new Set(['content-length']), new Set(['dpop'])]

/** The caller's request, without the headers for Deputy. */
export interface Given {
  readonly path: string
  readonly query: string
  readonly headers: RawHeaders
  readonly hasBody: boolean
}

/** What is sent to the service. */
export interface Injected {
  /** Path and query. */
  readonly target: string
  readonly headers: string[]
  /** Undefined when the body is forwarded unchanged. */
  readonly body?: Rewriter
  /** Every text that must not come back. */
  readonly secrets: readonly string[]
}

const loginSchema = z.object({ username: z.string(), password: z.string() })

const loginOf = (text: string, downstream: string): z.output<typeof loginSchema> => {
  try {
    return loginSchema.parse(JSON.parse(text))
  } catch {
    throw refuse('injection_unsafe', { downstream, problem: 'it is not a login: JSON with username and password' })
  }
}

const typeOf = (headers: RawHeaders, wanted: string): string => {
  for (const [lower, , value] of each(headers)) if (lower === wanted) return value.toLowerCase()
  return ''
}

/** A text as a body of this type carries it inside a value. */
const escapedFor = (type: string, text: string): string => {
  if (/^[^;]*json\b/.test(type)) return JSON.stringify(text).slice(1, -1)
  return type.startsWith('application/x-www-form-urlencoded') ? encodeURIComponent(text) : text
}

/** A placeholder in a place that is not filled would reach the service unchanged, and the failure would be hard to find. */
const assertPlaced = ({ path, query, headers }: Given, ways: readonly InjectionWay[], downstream: string): void => {
  for (const way of ways) {
    const [placeholder, expected] = 'path' in way ? [way.path, 'the path'] : 'body' in way ? [way.body, 'the body'] : []
    if (placeholder === undefined || expected === undefined) continue
    const place =
      'body' in way && path.includes(placeholder)
        ? 'the path'
        : query.includes(placeholder)
          ? 'the query'
          : headers.some((value) => value.includes(placeholder))
            ? 'a header'
            : undefined
    if (place !== undefined) throw refuse('placeholder_misplaced', { downstream, place, expected })
  }
}

/**
 * Puts the credential into a request, in every way that the downstream's file lists.
 * @throws DeputyError `injection_unsafe` for a credential that would end a header or a line (threat 27), `placeholder_misplaced`, `unsupported_media_type` for a body whose placeholder cannot be seen
 */
export const putIn = (credential: Secret, { downstream, inject: { as } }: AllowedInjection, given: Given): Injected => {
  const text = credential.reveal()
  const secrets = new Set([text])
  let { path } = given
  let query = given.query
  let body: Rewriter | undefined
  const set: (readonly [string, string])[] = []
  assertPlaced(given, as, downstream)

  const safe = (value: string): string => {
    if (/\p{Cc}/u.test(value))
      throw refuse('injection_unsafe', {
        downstream,
        problem: 'it has a line break or another control character in it',
      })
    return value
  }
  const header = (name: string, value: string): void => {
    if (/[^\x20-\x7e]/.test(safe(value)))
      throw refuse('injection_unsafe', { downstream, problem: 'it has characters in it that no header can carry' })
    set.push([name, value])
  }
  for (const way of as) {
    if ('header' in way) header(way.header, way.value.split(CREDENTIAL).join(text))
    else if ('basic' in way) {
      const { user } = way.basic
      const login = user === undefined ? loginOf(text, downstream) : { username: user, password: text }
      // RFC 7617 section 2: a colon would end the user.
      if (login.username.includes(':'))
        throw refuse('injection_unsafe', { downstream, problem: 'its user has a colon in it' })
      const pair = Buffer.from(safe(`${login.username}:${login.password}`)).toString('base64')
      secrets.add(login.password).add(pair)
      set.push(['Authorization', `Basic ${pair}`])
    } else if ('query' in way) query = withParameter(query, way.query, safe(text))
    else if ('path' in way) path = path.split(way.path).join(encodeURIComponent(safe(text)))
    else if (given.hasBody) {
      const encoding = typeOf(given.headers, 'content-encoding')
      if (encoding !== '' && encoding !== 'identity')
        throw refuse('unsupported_media_type', {
          type: encoding.slice(0, 100),
          expected: 'it is: a placeholder cannot be seen in a compressed body',
        })
      body = createReplacement(
        Buffer.from(way.body),
        Buffer.from(escapedFor(typeOf(given.headers, 'content-type'), safe(text))),
      )
    }
  }
  const headers = withHeaders(body === undefined ? given.headers : without(given.headers, LENGTH), set)
  return { target: `${path}${query}`, headers, secrets: [...secrets], ...(body === undefined ? {} : { body }) }
}

/** The headers with others, in the place of those that have their names. */
const withHeaders = (headers: RawHeaders, set: readonly (readonly [string, string])[]): string[] => [
  ...without(headers, new Set(set.map(([name]) => name.toLowerCase()))),
  ...set.flat(),
]

/**
 * Puts a token that is bound to a key into a request, in the one way that there is (RFC 9449 section 7.1). The proof of the key comes with each sending.
 * @throws DeputyError `injection_unsafe` for a token that is none
 */
export const putInBound = (
  credential: Secret,
  { downstream }: AllowedInjection,
  { path, query, headers }: Given,
): Injected => {
  const text = credential.reveal()
  if (!/^[A-Za-z0-9._~+/-]+=*$/.test(text))
    throw refuse('injection_unsafe', { downstream, problem: 'it has characters in it that no token has' })
  return {
    target: `${path}${query}`,
    headers: withHeaders(without(headers, PROOF), [['Authorization', `DPoP ${text}`]]),
    secrets: [text],
  }
}
