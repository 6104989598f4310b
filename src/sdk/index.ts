/**
 * `deputy-sdk`: how an MCP server on this machine obtains credentials from Deputy. Needs only Node.
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
  parseInactive,
  parseIntrospected,
  parseRegistration,
  type Inactive,
  type Introspected,
  type Presentation,
  type RegisteredTool,
  type Registration,
} from './registration.ts'
import { createReuse, MAX_REUSE_MS } from './reuse.ts'
import { Token } from './token.ts'
import { assertValid, formOf, SERVER, SESSION, type OnBehalfOf, type TokenRequest } from './token-request.ts'
import { createWire, type Address, type Answer } from './wire.ts'
import { errorOf, tokenOf, unexpected } from './answer.ts'

export {
  DeputyClientError,
  SERVER,
  SESSION,
  Token,
  type ClientKey,
  type Fetch,
  type Inactive,
  type Introspected,
  type OnBehalfOf,
  type Presentation,
  type RegisteredTool,
  type Registration,
  type TokenRequest,
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
   * How long Deputy may take for an answer (ms; default 60000): a provider or a vault may keep it waiting. A slow request
   * is not sent again.
   */
  readonly timeout?: number
  /**
   * How long `fetch` reuses a credential before it requests another one (ms, at most a minute). Default 0: it requests one for each call, so that each has a
   * record of its own and a revocation takes effect with the next one. A reused credential saves the request, and outlives a revocation by up to that long.
   */
  readonly reuse?: number
  readonly environment?: Readonly<Record<string, string | undefined>>
  /** For tests. */
  readonly fetch?: typeof globalThis.fetch
  readonly now?: () => number
}

export interface Deputy {
  /** @throws DeputyClientError with Deputy's reason; `interaction_required` has `connectUrl` */
  token(request: TokenRequest): Promise<Token>
  /** A `fetch` that carries a credential for the downstream. */
  fetch(
    downstream: string,
    onBehalfOf: OnBehalfOf,
    more?: Omit<TokenRequest, 'downstream' | 'onBehalfOf' | 'rejected' | 'signal'>,
  ): Fetch
  /** What this server is registered as. @throws DeputyClientError */
  server(signal?: AbortSignal): Promise<Registration>
  /**
   * The user of a token that this server received, and the tools that the user may call.
   * @param presented how the client sent it; Deputy then checks possession of a bound token as well
   * @throws DeputyClientError when Deputy cannot tell at the moment
   */
  introspect(token: string, signal?: AbortSignal, presented?: Presentation): Promise<Introspected | Inactive>
  close(): void
}

const ASSERTION = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
const PATIENCE_MS = 5000
const TIMEOUT_MS = 60_000

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

type Authentication = (parameters: URLSearchParams) => URLSearchParams

/** Adds to the parameters of a request what proves who calls. @throws TypeError for a key without a client id */
const createAuthentication = (
  { clientId, clientSecret, clientKey }: Pick<DeputyOptions, 'clientId' | 'clientSecret' | 'clientKey'>,
  now: () => number,
): Authentication => {
  if (clientKey !== undefined && clientId === undefined) throw new TypeError('clientKey requires clientId')
  const assertion = clientKey === undefined ? undefined : createClientAssertion(clientId!, clientKey)
  return (parameters) => {
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
}

/** A question about a token that this server received. */
const introspectionForm = (token: string, presented: Presentation | undefined): URLSearchParams => {
  const form = new URLSearchParams({ subject_token: token })
  if (presented === undefined) return form
  form.set('token_scheme', presented.scheme)
  form.set('htm', presented.method)
  for (const url of presented.urls) form.append('htu', url)
  if (presented.proof !== undefined) form.set('dpop_proof', presented.proof)
  return form
}

/** The `fetch` for services: straight to a service on this machine, where the environment has a proxy. */
const serviceFetch =
  (options: DeputyOptions) =>
  (url: URL, init: RequestInit): Promise<Response> =>
    options.fetch === undefined && url.protocol === 'http:' && mayGoThroughProxy(options.environment ?? process.env)
      ? fetchDirectly(url, init)
      : (options.fetch ?? globalThis.fetch)(url, init)

/**
 * The client of the Deputy on this machine. Nothing is sent until a token is requested, and nothing is kept unless `reuse` is set.
 * @throws TypeError for options that cannot be meant
 */
export const connectDeputy = (options: DeputyOptions = {}): Deputy => {
  const wire = createWire({
    address: addressOf(options),
    patience: options.patience ?? PATIENCE_MS,
    timeout: options.timeout ?? TIMEOUT_MS,
  })
  const now = options.now ?? Date.now
  const { reuse = 0 } = options
  if (!(reuse >= 0 && reuse <= MAX_REUSE_MS)) throw new TypeError(`reuse must be a time of at most ${MAX_REUSE_MS} ms`)
  const reused = createReuse({ span: reuse, now })
  const authenticate = createAuthentication(options, now)
  const fetchService = serviceFetch(options)

  const post = async (path: string, parameters: URLSearchParams, signal: AbortSignal | undefined): Promise<Answer> => {
    const answer = await wire.post(path, () => authenticate(parameters), signal)
    if (answer.status !== 200) throw errorOf(answer)
    return answer
  }

  const token: Deputy['token'] = async (request) => {
    assertValid(request)
    const requestedAt = now()
    return tokenOf(await post('/oauth2/token', formOf(request), request.signal), requestedAt)
  }

  return {
    token,
    fetch(downstream, onBehalfOf, more = {}) {
      const request: TokenRequest = { ...more, downstream, onBehalfOf }
      return createFetch({
        fetch: fetchService,
        token: (signal, rejected) =>
          reused(
            () => formOf(request).toString(),
            () =>
              token({
                ...request,
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
    async introspect(subject, signal, presented) {
      const answer = await post('/tools', introspectionForm(subject, presented), signal)
      if (answer.body['active'] === false) return parseInactive(answer.body, answer.correlationId)
      const user = answer.body['active'] === true ? parseIntrospected(answer.body, answer.correlationId) : undefined
      if (user === undefined) throw unexpected(answer.status)
      // A daemon of an older version checks no proofs.
      if (presented?.scheme === 'DPoP' && user.tokenType !== 'DPoP') throw unexpected(answer.status)
      return user
    },
    close: () => {
      wire.close()
    },
  }
}
