import type { Downstream, Inject } from '#config'
import { refuse } from '#errors'

/**
 * The request that the proxy puts the credential into, so that its caller never sees it. The proxy sets this; no field
 * of a form can.
 */
export interface Injection {
  /** Scheme, host and port that it goes to; undefined: the first host of the downstream that is named. */
  readonly origin: string | undefined
  /** Its method, and others that it asks the service to take it for. */
  readonly methods: readonly string[]
  /** As it came, without the query. */
  readonly path: string
}

/** What the proxy needs to know of an injection that was allowed. */
export interface AllowedInjection {
  readonly downstream: string
  readonly inject: Inject
  readonly origin: string
}

/** How often an escape may be escaped again; beyond that it is unknown how a service reads it. */
const MAX_ESCAPES = 3

/** The segments of a path as a service may come to read them; undefined where that is unknown. */
const segmentsOf = (path: string): string[] | undefined => {
  let read = path
  for (let depth = 0; read.includes('%'); depth += 1) {
    try {
      if (depth === MAX_ESCAPES) return undefined
      read = decodeURIComponent(read)
    } catch {
      return undefined
    }
  }
  const segments = read.split('/')
  // `..;` is a parent folder to servers that take parameters off segments, and `.. ` to those that take spaces off.
  return /[\\\p{Cc}]/u.test(read) || segments.some((segment) => /^ *\.[. ]*(;|$)/.test(segment)) ? undefined : segments
}

/** Whether a path is one of those listed or below it, however the service reads it. */
export const isPathWithin = (path: string, allowed: readonly string[]): boolean => {
  const written = path.split('/')
  const read = segmentsOf(path)
  // An escaped slash makes more segments than are written; an escape in the place of a plain letter is not what was listed.
  return (
    read?.length === written.length &&
    allowed.some((prefix) =>
      prefix
        .replace(/\/$/, '')
        .split('/')
        .every((segment, at) => written[at] === segment),
    )
  )
}

/**
 * Where the request goes, if the downstream's file lets its credential go there (promise 5). Without an injection the
 * credential would be handed out.
 * @param bound whether it is bound to a key of Deputy's
 * @throws DeputyError `injection_only`, `token_bound`, `injection_not_offered`, `injection_refused`
 */
export const allowInjection = (
  { downstream, inject }: Downstream,
  injection: Injection | undefined,
  bound: boolean,
): AllowedInjection | undefined => {
  if (injection === undefined) {
    if (inject?.only === true) throw refuse('injection_only', { downstream })
    if (bound) throw refuse('token_bound', { downstream })
    return undefined
  }
  if (inject === undefined) throw refuse('injection_not_offered', { downstream })
  const origin = injection.origin ?? inject.hosts[0]!
  if (!inject.hosts.includes(origin))
    throw refuse('injection_refused', { downstream, problem: `${origin} is none of its hosts` })
  const method = injection.methods.find((each) => !inject.methods.some((allowed) => allowed === each))
  if (method !== undefined)
    throw refuse('injection_refused', {
      downstream,
      problem: `the method ${method.slice(0, 40)} is none of its methods`,
    })
  if (inject.paths !== undefined && !isPathWithin(injection.path, inject.paths))
    throw refuse('injection_refused', { downstream, problem: 'the path is none of its paths' })
  return { downstream, inject, origin }
}
