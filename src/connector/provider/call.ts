import { BrokenCircuitError, circuitBreaker, ConsecutiveBreaker, ExponentialBackoff, handleWhen, retry, wrap, type IPolicy } from 'cockatiel'
import { LRUCache } from 'lru-cache'
import { AuthorizationResponseError, ClientError, ResponseBodyError, WWWAuthenticateChallengeError } from 'openid-client'
import { z } from 'zod'
import type { Telemetry } from '../../observe/telemetry.ts'
import { DeputyError, refuse } from '../../errors.ts'

/**
 * How a request to a provider went wrong.
 * `denied`: it said that the grant is over. `refused`: it said no for another reason. `not_sent`: it cannot have
 * acted on the request. `lost`: it may have acted, and its answer is not known. `unverified`: it answered, and the
 * answer is not what it should be.
 */
export type CallFailure = 'denied' | 'refused' | 'not_sent' | 'lost' | 'unverified'

const NOT_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT', 'CERT_HAS_EXPIRED', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'ERR_TLS_CERT_ALTNAME_INVALID'])

const codeOf = (error: unknown): string | undefined => {
  for (let each = error; each instanceof Error; each = each.cause) if ('code' in each && NOT_SENT.has(String(each.code))) return String(each.code)
  return undefined
}

/** Statuses with which a server or a proxy before it says that it has not done the work. */
const BUSY = new Set([408, 425, 429])

export const failureOf = (error: unknown): CallFailure => {
  if (error instanceof DeputyError) return 'not_sent'
  if (error instanceof ResponseBodyError) {
    if (error.error === 'invalid_grant') return 'denied'
    return BUSY.has(error.status) || error.error === 'temporarily_unavailable' || error.error === 'slow_down' ? 'not_sent' : 'refused'
  }
  if (error instanceof AuthorizationResponseError || error instanceof WWWAuthenticateChallengeError) return 'refused'
  if (codeOf(error) !== undefined) return 'not_sent'
  if (error instanceof ClientError && error.cause instanceof Response) return error.cause.status >= 500 ? 'lost' : error.cause.status === 200 ? 'unverified' : BUSY.has(error.cause.status) ? 'not_sent' : 'refused'
  if (error instanceof ClientError && (error.code?.startsWith('OAUTH_') ?? false) && error.code !== 'OAUTH_TIMEOUT' && error.code !== 'OAUTH_ABORT') return 'unverified'
  return 'lost'
}

const wordsSchema = z.object({ error: z.string(), error_description: z.string().optional() })

/** The provider's own words, for the record: its error code and description, and never a body that could hold a token. */
export const wordsOf = (error: unknown): string => {
  if (error instanceof DeputyError) return error.message
  const said = wordsSchema.safeParse(error instanceof ResponseBodyError ? error.cause : undefined)
  if (said.success) return `${said.data.error}${said.data.error_description === undefined ? '' : `: ${said.data.error_description.slice(0, 200)}`}`
  switch (failureOf(error)) {
    case 'not_sent': return `it could not be reached (${codeOf(error) ?? 'it is busy'})`
    case 'lost': return 'its answer did not arrive'
    default: return 'its answer is not what the standard says'
  }
}

const FAILURES = 5
const REST = 10_000

/**
 * Requests to providers: those that cannot have been acted on are sent again, with growing pauses; a provider that
 * fails again and again for a tenant is left alone for a while (https://www.npmjs.com/package/cockatiel).
 */
export const createProviderCalls = (options: { telemetry: Telemetry }) => {
  const breakers = new LRUCache<string, IPolicy>({ max: 10_000 })
  const policyFor = (provider: string, tenant: string): IPolicy => {
    const key = `${provider} ${tenant}`
    let policy = breakers.get(key)
    if (policy === undefined) {
      const broken = circuitBreaker(handleWhen((error) => ['lost', 'not_sent'].includes(failureOf(error))), { halfOpenAfter: REST, breaker: new ConsecutiveBreaker(FAILURES) })
      const again = retry(handleWhen((error) => !(error instanceof BrokenCircuitError) && failureOf(error) === 'not_sent' && !(error instanceof DeputyError)), { maxAttempts: 2, backoff: new ExponentialBackoff({ initialDelay: 100, maxDelay: 1000 }) })
      breakers.set(key, policy = wrap(again, broken))
    }
    return policy
  }

  /** @throws DeputyError `provider_circuit_open`, or what `work` throws */
  return async <T>(call: { provider: string; tenant: string; operation: string }, work: () => Promise<T>): Promise<T> => {
    const began = performance.now()
    const report = (outcome: 'ok' | 'error'): void => { options.telemetry.provider({ provider: call.provider, operation: call.operation, outcome, seconds: (performance.now() - began) / 1000 }) }
    try {
      const result = await options.telemetry.span(`deputy.provider.${call.operation}`, { 'deputy.provider': call.provider }, () => policyFor(call.provider, call.tenant).execute(work))
      report('ok')
      return result
    } catch (error) {
      report('error')
      if (error instanceof BrokenCircuitError) throw refuse('provider_circuit_open', { provider: call.provider, seconds: REST / 1000 }, error)
      throw error
    }
  }
}
export type CallProvider = ReturnType<typeof createProviderCalls>
