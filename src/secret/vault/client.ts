import { setTimeout as sleep } from 'node:timers/promises'
import { BrokenCircuitError, circuitBreaker, ConsecutiveBreaker, handleWhen } from 'cockatiel'
import { z } from 'zod'
import type { Secret } from '../../crypto/secret.ts'
import type { Egress } from '../../egress/egress.ts'
import { DeputyError, refuse } from '../../errors.ts'

/** What Vault has said. `body` is unknown until a schema has read it. */
export interface VaultAnswer {
  readonly status: number
  readonly body: unknown
  readonly retryAfter: number | undefined
}

export interface VaultRequest {
  readonly method: 'GET' | 'POST' | 'DELETE' | 'LIST'
  /** Below `/v1/`; segments are encoded already. */
  readonly path: string
  readonly body?: object
  /** Another one than that of the settings. */
  readonly namespace?: string
}

/**
 * Statuses that say: not now (https://developer.hashicorp.com/vault/api-docs#http-status-codes): 412 eventual consistency,
 * 429 quota or standby, 472 and 473 standby of other kinds, 500 and 502 an error within, 503 sealed or under maintenance.
 */
const NOT_NOW = new Set([412, 429, 472, 473, 500, 502, 503])
const ATTEMPTS = 3
const FIRST_PAUSE = 100
const LONGEST_PAUSE = 1000
/** After so many failures in a row Vault is left alone for so long (ms). */
const FAILURES = 5
const REST = 5000

const errorsSchema = z.object({ errors: z.array(z.string()) })

/** Vault's own words: they name paths and rules, not values. */
export const vaultWords = ({ status, body }: VaultAnswer): string => {
  const said = errorsSchema.safeParse(body)
  const words = said.success ? said.data.errors.join('; ').slice(0, 200) : ''
  return words === '' ? `it answered ${status}` : `it answered ${status}: ${words}`
}

const shown = (error: unknown): string =>
  error instanceof DeputyError
    ? error.message
    : error instanceof Error && error.name === 'TimeoutError'
      ? 'it did not answer in time'
      : 'it could not be reached'

export type SendToVault = (request: VaultRequest, token: Secret | undefined) => Promise<VaultAnswer>

/**
 * The wire: one request, sent again while Vault says that now is not the time. What can be repeated is the caller's
 * business only where an answer was lost, and then this throws.
 * @throws DeputyError `secret_backend_unavailable`
 */
export const createVaultWire = (options: {
  id: string
  address: string
  namespace?: string | undefined
  egress: Egress
  pause?: (milliseconds: number) => Promise<unknown>
}): SendToVault => {
  const { id, egress, pause = sleep } = options
  const base = `${options.address.replace(/\/$/, '')}/v1/`
  const breaker = circuitBreaker(
    handleWhen((error) => error instanceof DeputyError && error.code === 'secret_backend_unavailable'),
    { halfOpenAfter: REST, breaker: new ConsecutiveBreaker(FAILURES) },
  )

  const once = async (
    { method, path, body, namespace = options.namespace }: VaultRequest,
    token: Secret | undefined,
  ): Promise<VaultAnswer> => {
    try {
      const response = await egress(base + path, {
        method,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        headers: {
          // Vault Agents can be told to refuse what a browser or a redirect could have sent.
          'X-Vault-Request': 'true',
          Accept: 'application/json',
          ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
          ...(token === undefined ? {} : { 'X-Vault-Token': token.reveal() }),
          ...(namespace === undefined ? {} : { 'X-Vault-Namespace': namespace }),
        },
      })
      const text = await response.text()
      const seconds = Number(response.headers.get('retry-after'))
      let parsed: unknown
      try {
        parsed = text === '' ? undefined : JSON.parse(text)
      } catch {
        throw refuse('secret_backend_unavailable', {
          backend: id,
          problem: `it answered ${response.status} with what is no JSON`,
        })
      }
      return { status: response.status, body: parsed, retryAfter: seconds > 0 ? seconds * 1000 : undefined }
    } catch (error) {
      if (error instanceof DeputyError && error.code === 'secret_backend_unavailable') throw error
      throw refuse('secret_backend_unavailable', { backend: id, problem: shown(error) }, error)
    }
  }

  const persistently: SendToVault = async (request, token) => {
    for (let attempt = 1; ; attempt += 1) {
      const answer = await once(request, token)
      if (!NOT_NOW.has(answer.status)) return answer
      if (attempt === ATTEMPTS || (answer.retryAfter ?? 0) > LONGEST_PAUSE)
        throw refuse('secret_backend_unavailable', { backend: id, problem: vaultWords(answer) })
      await pause(answer.retryAfter ?? FIRST_PAUSE * 2 ** attempt)
    }
  }
  return async (request, token) => {
    try {
      return await breaker.execute(() => persistently(request, token))
    } catch (error) {
      if (error instanceof BrokenCircuitError)
        throw refuse(
          'secret_backend_unavailable',
          { backend: id, problem: 'it has failed repeatedly, so Deputy is leaving it alone for now' },
          error,
        )
      throw error
    }
  }
}

/** Reads an answer. @throws DeputyError `secret_backend_refused` for a status that is no success, `secret_backend_unavailable` for another form */
export const readVault = <Schema extends z.ZodType>(
  id: string,
  answer: VaultAnswer,
  schema: Schema,
): z.output<Schema> => {
  if (answer.status !== 200 && answer.status !== 204)
    throw refuse('secret_backend_refused', { backend: id, problem: vaultWords(answer) })
  const parsed = schema.safeParse(answer.body)
  if (!parsed.success)
    throw refuse('secret_backend_unavailable', {
      backend: id,
      problem: `its answer is not what its documentation says (${parsed.error.issues[0]?.path.join('.') ?? ''})`,
    })
  return parsed.data
}
