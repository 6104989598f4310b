import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { DeputyError, refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import { connectionProblem, type Egress, struck } from '#foundation/outbound'
import { createVaultBreakers } from './breakers.ts'
import { createNodeVault, type SendPrepared } from './node-vault.ts'

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
  /** ms for the answer, where it is not that of the settings. */
  readonly timeout?: number
  /** Sent once: what it makes must not be made twice. */
  readonly once?: true
}

/**
 * Statuses that say: not now (https://developer.hashicorp.com/vault/api-docs#http-status-codes): 412 eventual consistency,
 * 429 quota or standby, 472 and 473 standby of other kinds, 500 an error within, 501 not initialised, 502 and 504 of a gateway
 * before it, 503 sealed or under maintenance.
 */
const isNotNow = (status: number): boolean => status >= 500 || [412, 429, 472, 473].includes(status)
/** Of these the server as a whole says that it cannot; the others may be about one path. */
const isWhole = (status: number): boolean => status > 500 || [472, 473].includes(status)
/** A standby names the active node (https://developer.hashicorp.com/vault/docs/concepts/ha#client-redirection). */
const REDIRECTS = new Set([307, 308])
const MAX_ATTEMPTS = 3
const FIRST_PAUSE_MS = 100
const MAX_PAUSE_MS = 1000
/** All attempts of a request take no longer than so many times its timeout. */
const ATTEMPTS_TIME = 2

const errorsSchema = z.object({ errors: z.array(z.string()) })

const MAX_WORDS = 200
/** The frame that Go's `multierror` puts around the words of one error. */
const GO_FRAME = /\d+ errors? occurred:\s*\*?\s*/g

/** Exactly what Vault has said. */
export const rawWords = ({ body }: VaultAnswer): string => {
  const said = errorsSchema.safeParse(body)
  return said.success ? said.data.errors.join('; ') : ''
}

const cleaned = (words: string): string => words.replace(GO_FRAME, '').replace(/\s+/g, ' ').trim().slice(0, MAX_WORDS)

/** Vault's own words on one line: they name paths and rules, not values. They are for admins. */
export const vaultWords = (answer: VaultAnswer): string => cleaned(rawWords(answer))

/**
 * What Vault's refusal, or its "not now", comes to: callers get the status; the audit record and the log have the
 * words.
 * @param what was asked for, where the status would not say enough
 */
export const vaultRefusal = (
  id: string,
  answer: VaultAnswer,
  more: { readonly what?: string; readonly status?: number; readonly words?: string; readonly whole?: true } = {},
): DeputyError => {
  const { what, status = answer.status, words = vaultWords(answer) } = more
  return refuse(
    isNotNow(answer.status) ? 'secret_backend_unavailable' : 'secret_backend_refused',
    {
      backend: id,
      problem: `${what === undefined ? '' : `${what}: `}it answered ${answer.status}`,
      status,
      ...(words === '' ? {} : { answered: words }),
      ...(more.whole === undefined ? {} : { whole: 'yes' }),
    },
    words === '' ? undefined : new Error(`it answered ${answer.status}: ${words}`),
  )
}

const QUOTED = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`/g

/**
 * What an engine that makes credentials has said of a failure is the database's or the cloud's own: SQL, addresses,
 * pieces
 * of a password. The words reach admins without what is quoted in them.
 */
export const engineRefusal = (id: string, answer: VaultAnswer): DeputyError =>
  vaultRefusal(id, answer, { what: 'its engine', words: cleaned(rawWords(answer).replace(QUOTED, '"..."')) })

const shown = (error: unknown): string =>
  error instanceof DeputyError
    ? error.message
    : error instanceof Error && error.name === 'TimeoutError'
      ? 'it did not answer in time'
      : (connectionProblem(error) ?? 'it could not be reached')

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
  /** ms for one attempt. */
  timeout: number
  /** `deputy/<version>`. */
  userAgent?: string | undefined
  /** The id under which `deputy explain` knows the request that this one is for. */
  correlationId?: (() => string | undefined) | undefined
  pause?: (milliseconds: number) => Promise<unknown>
}): SendToVault => {
  const { id, egress, pause = sleep } = options
  const base = options.address.replace(/\/$/, '')
  const breakers = createVaultBreakers(id)
  const silent = (problem: string, cause?: unknown): DeputyError =>
    refuse('secret_backend_unavailable', { backend: id, problem, whole: 'yes' }, cause)

  const sendPrepared: SendPrepared = async ({ url, body, ...request }) => {
    try {
      const response = await egress(url, { ...request, ...(body === undefined ? {} : { body }) })
      return { response, text: await response.text() }
    } catch (error) {
      // An answer that is too long is one path's, and the server has answered.
      if (error instanceof DeputyError && error.facts['answered'] === 'yes')
        throw refuse('secret_backend_unavailable', { backend: id, problem: error.message }, error)
      throw silent(shown(error), error)
    }
  }
  const active = createNodeVault(base, sendPrepared)
  const ask = (vault: typeof active, request: VaultRequest, token: Secret | undefined, timeout: number) => {
    const { method, path, body, namespace = options.namespace } = request
    const correlationId = options.correlationId?.()
    const headers = {
      // Vault Agents can be configured to refuse requests that a browser or a redirect could have sent.
      'X-Vault-Request': 'true',
      Accept: 'application/json',
      // Both stand in Vault's audit log (https://developer.hashicorp.com/vault/docs/audit#auditing-requests-headers).
      'User-Agent': options.userAgent ?? 'deputy',
      ...(correlationId === undefined ? {} : { 'X-Correlation-ID': correlationId }),
      ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
    }
    return vault({ method, path, headers, token, namespace, body, timeout })
  }

  /** One request, and once more where a standby says who leads. */
  const attempt = async (request: VaultRequest, token: Secret | undefined, timeout: number): Promise<VaultAnswer> => {
    let { response, text } = await ask(active, request, token, timeout)
    const leader = REDIRECTS.has(response.status) ? leaderOf(response, base, request.path) : undefined
    if (leader !== undefined)
      ({ response, text } = await ask(createNodeVault(leader, sendPrepared), request, token, timeout))
    const { status } = response
    if (status >= 300 && status < 400) throw silent(`it is a standby (${status}) and leads to no active node`)
    const seconds = Number(response.headers.get('retry-after'))
    const retryAfter = seconds > 0 ? seconds * 1000 : undefined
    const body = parsed(text)
    if (isNotNow(status)) return { status, body, retryAfter }
    // What stands before Vault has its own pages for what is forbidden or not there: they are not Vault's word.
    if (body === NO_JSON || (status >= 400 && !isVaults(body)))
      throw refuse('secret_backend_unavailable', {
        backend: id,
        whole: 'yes',
        problem: TO_TLS.test(text)
          ? 'it speaks TLS there: its address has to begin with https://'
          : `it answered ${status} with what is not Vault's JSON`,
        ...(struck(text) === '' || body !== NO_JSON ? {} : { answered: struck(text) }),
      })
    return { status, body, retryAfter }
  }

  const persistently: SendToVault = async (request, token) => {
    const timeout = request.timeout ?? options.timeout
    const until = performance.now() + timeout * ATTEMPTS_TIME
    for (let count = 1; ; count += 1) {
      const left = until - performance.now()
      const answer = await attempt(request, token, Math.min(timeout, left))
      if (!isNotNow(answer.status)) return answer
      const isOurs = request.once === true && !isWhole(answer.status) && answer.status !== 429
      // What it has begun to make is not asked for again.
      if (isOurs) return answer
      const wait = answer.retryAfter ?? FIRST_PAUSE_MS * 2 ** count
      const isOver = count === MAX_ATTEMPTS || wait > MAX_PAUSE_MS || performance.now() + wait >= until
      if (isOver) {
        throw vaultRefusal(id, answer, isWhole(answer.status) ? { whole: true } : {})
      }
      await pause(wait)
    }
  }
  return (request, token) => breakers.execute(request.path, () => persistently(request, token))
}

/** What a server in Go says of a request without TLS at a port with TLS. */
const TO_TLS = /HTTP request to an HTTPS server/

const NO_JSON = Symbol('no JSON')
const parsed = (text: string): unknown => {
  try {
    return text === '' ? undefined : JSON.parse(text)
  } catch {
    return NO_JSON
  }
}

/** A refusal as Vault writes it: `errors`, or the data of a version that was deleted. */
const refusalSchema = z.union([errorsSchema, z.object({ data: z.unknown() })])
const isVaults = (body: unknown): boolean => refusalSchema.safeParse(body).success

/**
 * Where the active node is. The certificates that are trusted there are the same; a connection with TLS leads to none without.
 * @returns its base URL; undefined where the answer names no such place
 */
const leaderOf = (response: Response, base: string, path: string): string | undefined => {
  const asked = new URL(`${base}/v1/${path}`)
  const location = response.headers.get('location')
  if (location === null || !URL.canParse(location, asked.href)) return undefined
  const url = new URL(location, asked)
  const isAsSafe = url.protocol === 'https:' || asked.protocol === 'http:'
  return isAsSafe && url.pathname === asked.pathname
    ? url.origin + new URL(base).pathname.replace(/\/$/, '')
    : undefined
}

/** Reads an answer. @throws DeputyError `secret_backend_refused` for a status that is no success, `secret_backend_unavailable` for another form */
export const readVault = <Schema extends z.ZodType>(
  id: string,
  answer: VaultAnswer,
  schema: Schema,
): z.output<Schema> => {
  const { status } = answer
  if (status !== 200 && status !== 204) throw vaultRefusal(id, answer)
  const parsed = schema.safeParse(answer.body)
  if (!parsed.success)
    throw refuse('secret_backend_unavailable', {
      backend: id,
      problem: `its answer is not what its documentation says (${parsed.error.issues[0]?.path.join('.') ?? ''})`,
    })
  return parsed.data
}
