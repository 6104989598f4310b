/**
 * `deputy/sdk`: how an MCP server on this machine asks Deputy for credentials. Needs nothing but Node.
 *
 *     const deputy = connectDeputy()
 *     const response = await deputy.fetch('notes-api', userToken)('https://notes.example/api/notes')
 */
import { join } from 'node:path'
import { createClientAssertion, type ClientKey } from './client-assertion.ts'
import { DeputyClientError } from './error.ts'
import { fetchDirectly, mayGoThroughProxy } from './direct.ts'
import { createFetch, isLoopback, type Fetch } from './fetch.ts'
import {
  parseIntrospected,
  parseRegistration,
  type Inactive,
  type Introspected,
  type RegisteredTool,
  type Registration,
} from './registration.ts'
import { createReuse, LONGEST_REUSE } from './reuse.ts'
import { Token } from './token.ts'
import { createWire, type Address, type Answer } from './wire.ts'

export {
  DeputyClientError,
  Token,
  type ClientKey,
  type Fetch,
  type Inactive,
  type Introspected,
  type RegisteredTool,
  type Registration,
}

export interface DeputyOptions {
  /** Path of the Unix socket. Default: DEPUTY_SOCKET, else `run/deputy.sock` in DEPUTY_HOME, else in /etc/deputy. */
  readonly socket?: string
  /** `host:port` on loopback instead of a socket; then the server has to authenticate. */
  readonly tcp?: string
  /** This server's id: over TCP, or where several servers match the process. */
  readonly clientId?: string
  readonly clientSecret?: string
  /** Or a key with which it signs that it is `clientId` (private_key_jwt). */
  readonly clientKey?: ClientKey
  /** How long Deputy may be away, for example restarting, before a request fails (ms; default 5000). */
  readonly patience?: number
  /**
   * How long Deputy may take for an answer (ms; default 60000): a provider or a vault may keep it waiting. What is slow
   * is not asked again.
   */
  readonly timeout?: number
  /**
   * How long `fetch` goes on with a credential before it asks again (ms, at most a minute). Default 0: it asks with each request, so that each has a
   * record of its own and a revocation holds from the next one on. What is used again saves the question, and outlives a revocation by that long.
   */
  readonly reuse?: number
  readonly environment?: Readonly<Record<string, string | undefined>>
  /** For tests. */
  readonly fetch?: typeof globalThis.fetch
  readonly now?: () => number
}

/** For whom: the token that the user's client sent to this server; `session`, the Unix user's own login (`deputy login`); `server`, this server itself. */
export type OnBehalfOf = { readonly token: string; readonly type?: string } | string | typeof SESSION | typeof SERVER
export const SESSION: unique symbol = Symbol('the login session of the Unix user')
export const SERVER: unique symbol = Symbol('this server itself')

export interface TokenRequest {
  /** Id of the downstream service. */
  readonly downstream: string
  readonly onBehalfOf: OnBehalfOf
  /** Absent: all that the server, or the tool, is registered for. */
  readonly scopes?: readonly string[]
  /** The MCP tool that is being called: narrows to what it needs. */
  readonly tool?: string
  /** The credential that was issued for the same wish before and that the service refused (401): Deputy drops it and gives another, if there is one. */
  readonly rejected?: Token
  readonly signal?: AbortSignal
}

export interface Deputy {
  /** @throws DeputyClientError with Deputy's reason; `interaction_required` has `connectUrl` */
  token(wish: TokenRequest): Promise<Token>
  /** A `fetch` that carries a credential for the downstream. */
  fetch(
    downstream: string,
    onBehalfOf: OnBehalfOf,
    more?: Omit<TokenRequest, 'downstream' | 'onBehalfOf' | 'rejected' | 'signal'>,
  ): Fetch
  /** What this server is registered as. @throws DeputyClientError */
  server(signal?: AbortSignal): Promise<Registration>
  /** Whose token this server was sent, and which tools that user may call. @throws DeputyClientError when that cannot be said now */
  introspect(token: string, signal?: AbortSignal): Promise<Introspected | Inactive>
  close(): void
}

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'
const ASSERTION = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
const LOGIN_SESSION = 'urn:deputy:params:oauth:token-type:login-session'
const PATIENCE = 5000
const TIMEOUT = 60_000

const addressOf = ({ socket, tcp, environment = process.env }: DeputyOptions): Address => {
  if (tcp !== undefined) {
    const at = tcp.lastIndexOf(':')
    if (!isLoopback(tcp.slice(0, at)))
      throw new TypeError(
        `tcp is host:port on this machine, such as 127.0.0.1:7880, not ${tcp}: secrets and tokens go over it in clear`,
      )
    return { host: tcp.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(tcp.slice(at + 1)) }
  }
  return {
    socketPath:
      socket ?? environment['DEPUTY_SOCKET'] ?? join(environment['DEPUTY_HOME'] ?? '/etc/deputy', 'run/deputy.sock'),
  }
}

/**
 * Mistakes that types do not keep from programs without them: none of them may come to more than was meant. @throws
 * TypeError
 */
const assertMeant = ({ onBehalfOf, scopes }: TokenRequest): void => {
  if (scopes !== undefined && !(Array.isArray(scopes) && scopes.every((scope) => typeof scope === 'string')))
    throw new TypeError("scopes is a list of texts, such as ['notes:read']")
  if (scopes?.length === 0)
    throw new TypeError('scopes names none: leave it out for all that the server, or the tool, is registered for')
  if (onBehalfOf === SESSION || onBehalfOf === SERVER) return
  const token: unknown = typeof onBehalfOf === 'object' ? (onBehalfOf as { token?: unknown } | null)?.token : onBehalfOf
  if (typeof token !== 'string' || token === '' || onBehalfOf instanceof Token)
    throw new TypeError("onBehalfOf is the user's token as the client sent it, SESSION or SERVER")
}

/** RFC 8693 section 2.1, RFC 6749 section 4.4. */
const formOf = ({ downstream, onBehalfOf, scopes, tool, rejected }: TokenRequest): URLSearchParams => {
  const form = new URLSearchParams({
    audience: downstream,
    ...(scopes === undefined ? {} : { scope: scopes.join(' ') }),
    ...(tool === undefined ? {} : { tool }),
    ...(rejected === undefined ? {} : { rejected_token: rejected.reveal() }),
  })
  if (onBehalfOf === SERVER) {
    form.set('grant_type', 'client_credentials')
    return form
  }
  const subject =
    onBehalfOf === SESSION
      ? { token: 'current', type: LOGIN_SESSION }
      : typeof onBehalfOf === 'string'
        ? { token: onBehalfOf }
        : onBehalfOf
  form.set('grant_type', TOKEN_EXCHANGE)
  form.set('subject_token', subject.token)
  form.set('subject_token_type', subject.type ?? ACCESS_TOKEN)
  return form
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

const errorOf = ({ status, body, retryAfter, correlationId }: Answer): DeputyClientError => {
  const [reason, error, message] = [text(body['reason']), text(body['error']), text(body['error_description'])]
  if (error === undefined) return unexpected(status)
  return new DeputyClientError({
    reason: reason ?? error,
    error,
    message: message ?? error,
    next: text(body['next']) ?? '',
    retryAfter,
    correlationId: text(body['correlation_id']) ?? correlationId,
    connectUrl: text(body['connect_url']),
    claims: text(body['claims']),
  })
}

/** Members of an answer that the standards have a meaning for (RFC 6749 section 5.1, RFC 8693 section 2.2.1). */
const STANDARD = new Set(['access_token', 'issued_token_type', 'token_type', 'expires_in', 'scope', 'refresh_token'])

const fieldsOf = (body: Answer['body']): Record<string, string> =>
  Object.fromEntries(
    Object.entries(body).flatMap(([name, value]) =>
      STANDARD.has(name) || typeof value !== 'string' ? [] : [[name, value]],
    ),
  )

const unexpected = (status: number): DeputyClientError =>
  new DeputyClientError({
    reason: 'unexpected_answer',
    error: 'server_error',
    message: `What answered (${status}) is not Deputy.`,
    next: 'Check the path of the socket, or the port.',
  })

/** The way to the Deputy on this machine. Nothing is sent until a token is asked for, and nothing is kept unless `reuse` says so. @throws TypeError for options that cannot be meant */
export const connectDeputy = (options: DeputyOptions = {}): Deputy => {
  const wire = createWire({
    address: addressOf(options),
    patience: options.patience ?? PATIENCE,
    timeout: options.timeout ?? TIMEOUT,
  })
  const now = options.now ?? Date.now
  const { clientId, clientSecret, clientKey, reuse = 0 } = options
  if (!(reuse >= 0 && reuse <= LONGEST_REUSE)) throw new TypeError(`reuse is a time of at most ${LONGEST_REUSE} ms`)
  const held = createReuse({ span: reuse, now })
  if (clientKey !== undefined && clientId === undefined) throw new TypeError('clientKey needs clientId')
  const assertion = clientKey === undefined ? undefined : createClientAssertion(clientId!, clientKey)

  const authenticated = (parameters: URLSearchParams): URLSearchParams => {
    const form = new URLSearchParams(parameters)
    if (assertion !== undefined) {
      form.set('client_assertion_type', ASSERTION)
      form.set('client_assertion', assertion(now()))
      return form
    }
    if (clientId !== undefined) form.set('client_id', clientId)
    if (clientSecret !== undefined) form.set('client_secret', clientSecret)
    return form
  }

  const post = async (path: string, parameters: URLSearchParams, signal: AbortSignal | undefined): Promise<Answer> => {
    const answer = await wire.post(path, () => authenticated(parameters), {}, signal)
    if (answer.status !== 200) throw errorOf(answer)
    return answer
  }

  const token: Deputy['token'] = async (wish) => {
    assertMeant(wish)
    const askedAt = now()
    const answer = await post('/oauth2/token', formOf(wish), wish.signal)
    const { access_token: value, token_type: type, expires_in: seconds, scope = '' } = answer.body
    if (
      typeof value !== 'string' ||
      typeof type !== 'string' ||
      typeof seconds !== 'number' ||
      typeof scope !== 'string'
    )
      throw unexpected(answer.status)
    return new Token(value, {
      type,
      scopes: scope === '' ? [] : scope.split(' '),
      expiresAt: askedAt + seconds * 1000,
      warning: answer.warning,
      fields: fieldsOf(answer.body),
    })
  }

  return {
    token,
    fetch(downstream, onBehalfOf, more = {}) {
      const wish: TokenRequest = { ...more, downstream, onBehalfOf }
      return createFetch({
        fetch: (url, init) =>
          options.fetch === undefined &&
          url.protocol === 'http:' &&
          mayGoThroughProxy(options.environment ?? process.env)
            ? fetchDirectly(url, init)
            : (options.fetch ?? globalThis.fetch)(url, init),
        token: (signal, rejected) =>
          held(
            () => formOf(wish).toString(),
            () =>
              token({
                ...wish,
                ...(signal === undefined ? {} : { signal }),
                ...(rejected === undefined ? {} : { rejected }),
              }),
            rejected !== undefined,
          ),
      })
    },
    async server(signal) {
      const answer = await post('/server', new URLSearchParams(), signal)
      const registration = parseRegistration(answer.body)
      if (registration === undefined) throw unexpected(answer.status)
      return registration
    },
    async introspect(subject, signal) {
      const answer = await post('/tools', new URLSearchParams({ subject_token: subject }), signal)
      if (answer.body['active'] === false) return { active: false, correlationId: answer.correlationId }
      const user = answer.body['active'] === true ? parseIntrospected(answer.body, answer.correlationId) : undefined
      if (user === undefined) throw unexpected(answer.status)
      return user
    },
    close: () => {
      wire.close()
    },
  }
}
