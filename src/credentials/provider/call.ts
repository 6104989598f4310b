import {
  BrokenCircuitError,
  circuitBreaker,
  CircuitState,
  ConsecutiveBreaker,
  ExponentialBackoff,
  handleWhen,
  retry,
  wrap,
  type CircuitBreakerPolicy,
  type IPolicy,
} from 'cockatiel'
import { createLru } from '#foundation/lru'
import {
  AuthorizationResponseError,
  ClientError,
  ResponseBodyError,
  WWWAuthenticateChallengeError,
} from 'openid-client'
import { z } from 'zod'
import type { Clock } from '#clock'
import { DeputyError, refuse } from '#errors'
import { struck, told } from '#foundation/outbound'
import type { SharedBytes } from '#foundation/redis'
import type { Telemetry } from '#foundation/telemetry'

/**
 * How a request to a provider went wrong.
 * `denied`: it said that the grant is over. `challenged`: it wants to see the user again before it says yes. `refused`: it said no for another reason. `not_sent`: it cannot have
 * acted on the request. `lost`: it may have acted, and its answer is not known. `unverified`: it answered, and the
 * answer is not what it should be.
 */
export type CallFailure = 'denied' | 'challenged' | 'refused' | 'not_sent' | 'lost' | 'unverified'

const NOT_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
])

const codeOf = (error: unknown): string | undefined => {
  for (let each = error; each instanceof Error; each = each.cause)
    if ('code' in each && NOT_SENT.has(String(each.code))) return String(each.code)
  return undefined
}

/** Statuses with which a server or a proxy before it says that it has not done the work. */
const BUSY = new Set([408, 425, 429])

/** Error codes by which a provider asks for the user (OpenID Connect Core section 3.1.2.6, RFC 9470). */
const ASKS_FOR_USER = new Set([
  'interaction_required',
  'login_required',
  'consent_required',
  'insufficient_user_authentication',
])

const LONGEST_CLAIMS = 4000

/**
 * The claims challenge of an error: a JSON object to be sent along when the user is asked again
 * (https://learn.microsoft.com/en-us/entra/identity-platform/claims-challenge).
 */
export const challengeIn = (error: unknown): { readonly claims?: string } => {
  const claims: unknown = error instanceof ResponseBodyError ? error.cause['claims'] : undefined
  if (typeof claims !== 'string' || claims.length > LONGEST_CLAIMS) return {}
  try {
    return z.record(z.string(), z.unknown()).safeParse(JSON.parse(claims)).success ? { claims } : {}
  } catch {
    return {}
  }
}

/** Deputy's own refusal, such as that of its egress, out of the error that a client made of it; any other error as it is. */
export const plainly = (error: unknown): unknown => {
  for (let each = error; each instanceof Error; each = each.cause) if (each instanceof DeputyError) return each
  return error
}

export const failureOf = (thrown: unknown): CallFailure => {
  const error = plainly(thrown)
  // What was too long to be read was an answer nevertheless.
  if (error instanceof DeputyError) return error.facts['answered'] === 'yes' ? 'lost' : 'not_sent'
  if (error instanceof ResponseBodyError) {
    if (ASKS_FOR_USER.has(error.error) || challengeIn(error).claims !== undefined) return 'challenged'
    if (error.error === 'invalid_grant') return 'denied'
    return BUSY.has(error.status) || error.error === 'temporarily_unavailable' || error.error === 'slow_down'
      ? 'not_sent'
      : 'refused'
  }
  if (error instanceof AuthorizationResponseError || error instanceof WWWAuthenticateChallengeError) return 'refused'
  if (codeOf(error) !== undefined) return 'not_sent'
  if (error instanceof ClientError && error.cause instanceof Response)
    // A gateway's 503 says that no server had the request; its 502 and 504 come also where one had.
    return error.cause.status >= 500
      ? error.cause.status === 503
        ? 'not_sent'
        : 'lost'
      : error.cause.status === 200
        ? 'unverified'
        : BUSY.has(error.cause.status)
          ? 'not_sent'
          : 'refused'
  if (
    error instanceof ClientError &&
    (error.code?.startsWith('OAUTH_') ?? false) &&
    error.code !== 'OAUTH_TIMEOUT' &&
    error.code !== 'OAUTH_ABORT'
  )
    return 'unverified'
  return 'lost'
}

/** Deputy's own no before anything was sent, such as to a user whom it cannot name there: the provider had no part in it. */
const isOwnRefusal = (error: unknown): boolean =>
  plainly(error) instanceof DeputyError && failureOf(error) === 'not_sent'

/** A gateway that has no server for the request: three more requests within a second find none either, and keep others from it. */
const isGatewayWithoutServer = (error: unknown): boolean =>
  error instanceof ClientError && error.cause instanceof Response && error.cause.status === 503

const toldOf = (seen: string): string => {
  const words = told(seen)
  return words === '' ? '' : ` (${words})`
}

const wordsSchema = z.object({ error: z.string(), error_description: z.string().optional() })

/** The provider's own words, for the record: its error code and description, or what it said instead; what could be a token is struck out. @param seen the text of its answer */
export const wordsOf = (thrown: unknown, seen = ''): string => {
  const error = plainly(thrown)
  if (error instanceof DeputyError) return error.message
  const said = wordsSchema.safeParse(error instanceof ResponseBodyError ? error.cause : undefined)
  if (said.success)
    return `${struck(said.data.error)}${said.data.error_description === undefined ? '' : `: ${struck(said.data.error_description)}`}`
  switch (failureOf(error)) {
    case 'not_sent':
      return `it could not be reached (${codeOf(error) ?? 'it is busy'})`
    case 'lost':
      return 'its answer did not arrive'
    case 'refused':
      if (error instanceof WWWAuthenticateChallengeError)
        return `it answered ${error.status} and did not say why${toldOf(seen)}`
      return `its answer is not what the standard says${toldOf(seen)}`
    default:
      return `its answer is not what the standard says${toldOf(seen)}`
  }
}

const FAILURES = 5
const REST = 10_000
/** When who asked may try again, where the provider does not say (ms). */
export const UNSAID_WAIT = 5000
/** A provider that wants to be left alone for no longer than this is asked again in the same request (ms). */
const SHORT_REST = 1000
/** Nobody is left alone for longer on its word (ms). */
const LONGEST_REST = 900_000
const REMEMBERED = 10_000

/** The answer that an error is about; undefined where there was none. */
const responseOf = (error: unknown): Response | undefined =>
  error instanceof ResponseBodyError
    ? error.response
    : error instanceof ClientError && error.cause instanceof Response
      ? error.cause
      : undefined

/** `Retry-After` of an answer that says that now is not the time (RFC 9110 section 10.2.3), in ms; undefined where it says nothing. */
export const retryAfterOf = (error: unknown, now: number): number | undefined => {
  const response = responseOf(error)
  const text =
    response !== undefined && (BUSY.has(response.status) || response.status === 503)
      ? response.headers.get('retry-after')
      : null
  if (text === null) return undefined
  const wait = /^\d{1,9}$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - now
  return Number.isFinite(wait) && wait > 0 ? Math.min(wait, LONGEST_REST) : undefined
}

/** A provider that is left alone for a tenant, and why. Times are ms since the epoch. */
export interface ProviderTrouble {
  readonly provider: string
  readonly tenant: string
  readonly state: 'open' | 'half_open' | 'asked_to_wait'
  readonly until: number | null
}

/** What nodes tell each other about providers that want to be left alone. */
export type SharedRests = Pick<SharedBytes, 'get' | 'set'>

/**
 * Requests to providers: those that cannot have been acted on are sent again, with growing pauses; a provider that
 * fails again and again for a tenant is left alone for a while (https://www.npmjs.com/package/cockatiel), and so is one that says
 * for how long, on every node.
 */
export const createProviderCalls = (options: {
  telemetry: Telemetry
  clock: Clock
  shared?: SharedRests | undefined
}) => {
  const breakers = createLru<
    string,
    { readonly policy: IPolicy; readonly breaker: CircuitBreakerPolicy; openedAt: number | undefined }
  >({ max: REMEMBERED })
  const rests = createLru<string, number>({ max: REMEMBERED })
  const { clock } = options
  const isShort = (error: unknown): boolean => (retryAfterOf(error, clock.now()) ?? 0) <= SHORT_REST

  const breakerFor = (key: string) => {
    let known = breakers.get(key)
    if (known === undefined) {
      const breaker = circuitBreaker(
        handleWhen((error) => ['lost', 'not_sent'].includes(failureOf(error)) && !isOwnRefusal(error)),
        { halfOpenAfter: REST, breaker: new ConsecutiveBreaker(FAILURES) },
      )
      const again = retry(
        handleWhen(
          (error) =>
            !(error instanceof BrokenCircuitError) &&
            failureOf(error) === 'not_sent' &&
            !isOwnRefusal(error) &&
            !isGatewayWithoutServer(error) &&
            isShort(error),
        ),
        { maxAttempts: 2, backoff: new ExponentialBackoff({ initialDelay: 100, maxDelay: 1000 }) },
      )
      const made = { policy: wrap(again, breaker), breaker, openedAt: undefined as number | undefined }
      breaker.onBreak(() => {
        made.openedAt = clock.now()
      })
      breakers.set(key, (known = made))
    }
    return known
  }

  /** Until when it wants to be left alone, as far as this or another node was told. */
  const restOf = async (key: string): Promise<number> => {
    const own = rests.get(key) ?? 0
    if (own > clock.now()) return own
    const told = Number(Buffer.from((await options.shared?.get('rest', key)) ?? []).toString('utf8'))
    return Number.isFinite(told) ? Math.min(told, clock.now() + LONGEST_REST) : 0
  }
  const assertAwake = async (provider: string, key: string): Promise<void> => {
    const left = (await restOf(key)) - clock.now()
    if (left > 0) throw refuse('provider_busy', { provider, seconds: Math.ceil(left / 1000) })
  }
  const noteRest = async (key: string, error: unknown): Promise<void> => {
    const wait = retryAfterOf(error, clock.now())
    if (wait === undefined || wait <= SHORT_REST) return
    rests.set(key, clock.now() + wait)
    await options.shared?.set('rest', key, Buffer.from(String(clock.now() + wait)), wait)
  }

  /** @throws DeputyError `provider_circuit_open`, `provider_busy`, or what `work` throws */
  const call = async <T>(
    called: { provider: string; tenant: string; operation: string },
    work: () => Promise<T>,
  ): Promise<T> => {
    const { provider, tenant, operation } = called
    const key = `${provider} ${tenant}`
    await assertAwake(provider, key)
    const began = performance.now()
    const report = (outcome: 'ok' | 'error'): void => {
      options.telemetry.provider({ provider, operation, outcome, seconds: (performance.now() - began) / 1000 })
    }
    try {
      const result = await options.telemetry.span(`deputy.provider.${operation}`, { 'deputy.provider': provider }, () =>
        breakerFor(key).policy.execute(work),
      )
      report('ok')
      return result
    } catch (error) {
      report('error')
      if (error instanceof BrokenCircuitError)
        throw refuse('provider_circuit_open', { provider, seconds: REST / 1000 }, error)
      await noteRest(key, error)
      throw error
    }
  }

  return Object.assign(call, {
    /** Providers that are left alone at the moment, as this node sees them. */
    troubles: (): ProviderTrouble[] => {
      const named = (key: string) => {
        const at = key.indexOf(' ')
        return { provider: key.slice(0, at), tenant: key.slice(at + 1) }
      }
      const broken = [...breakers]
        .filter(([, { breaker }]) => breaker.state === CircuitState.Open || breaker.state === CircuitState.HalfOpen)
        .map(([key, { breaker, openedAt }]): ProviderTrouble => ({
          ...named(key),
          state: breaker.state === CircuitState.Open ? 'open' : 'half_open',
          until: openedAt === undefined ? null : openedAt + REST,
        }))
      const resting = [...rests]
        .filter(([, until]) => until > clock.now())
        .map(([key, until]): ProviderTrouble => ({ ...named(key), state: 'asked_to_wait', until }))
      return [...broken, ...resting]
    },
  })
}
export type ProviderCalls = ReturnType<typeof createProviderCalls>
export type CallProvider = <T>(
  called: { provider: string; tenant: string; operation: string },
  work: () => Promise<T>,
) => Promise<T>
