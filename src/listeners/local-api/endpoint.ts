import type { IncomingMessage, ServerResponse } from 'node:http'
import type { CurrentSnapshot } from '#config'
import { refuse } from '#errors'
import type { DeviceLogin, DeviceLoginState } from '#flows/connect'
import type { BeginExec, Exchange, RequestOrigin, ServerView, TokenState } from '#flows/exchange'
import type { ToolCalls } from '#flows/tool-call'
import type { Logger, Telemetry } from '#foundation/telemetry'
import type { ExecSession, PeerProcess } from '#identity/workload'
import { type Form, readEvidence, readForm } from '#listeners/http'
import type { ExecProxy } from './exec.ts'

export interface Readiness {
  readonly ready: boolean
  readonly checks: Readonly<Record<string, string>>
  /** Of vaults and key services: their words, names of tenants and of secrets, which are for admins. */
  readonly backends: Readonly<Record<string, string>>
}

/** `deputy login`: sign-in of the Unix user that calls. */
export interface LoginSessions {
  /** The page on which the user signs in. */
  start(request: { tenant: string; uid: number }): Promise<{ url: string }>
  /** Begins the device grant at the tenant's identity provider. */
  startDevice(request: { tenant: string; uid: number }): Promise<DeviceLogin>
  /** How the device grant that the Unix user has begun goes. */
  device(uid: number): DeviceLoginState | undefined
  find(uid: number): Promise<{ tenant: string; user: string; expiresAt: number } | undefined>
  end(uid: number): Promise<void>
}

export interface LocalApiDependencies {
  readonly snapshot: CurrentSnapshot
  readonly exchange: Exchange
  readonly tokens: TokenState
  readonly serverView: ServerView
  readonly toolCalls: ToolCalls
  readonly jwks: () => object
  /** The process at the other end of the connection; undefined over TCP. */
  readonly peer: (request: IncomingMessage) => Promise<PeerProcess | undefined>
  readonly guard: (request: IncomingMessage) => void
  readonly readiness: () => Promise<Readiness>
  readonly login: LoginSessions
  readonly exec: { readonly begin: BeginExec; readonly proxy: (session: ExecSession) => ExecProxy | undefined }
  /** Runs a request as a span that follows the caller's. */
  readonly trace: <T>(
    origin: { traceparent: string | undefined; id: string },
    name: string,
    work: () => Promise<T>,
  ) => Promise<T>
  readonly correlationId: () => string
  readonly telemetry: Telemetry
  readonly logger: Logger
}

/** Answers a request. @throws DeputyError, which is sent in place of an answer */
export type Endpoint = (
  request: IncomingMessage,
  response: ServerResponse,
  correlationId: string,
) => void | Promise<void>

/** The form in a request's body, within the configured size. @throws DeputyError `malformed_request` */
export const formOf = (request: IncomingMessage, { snapshot }: Pick<LocalApiDependencies, 'snapshot'>): Promise<Form> =>
  readForm(request, snapshot().settings.limits.body_bytes)

/** W3C Trace Context: a header of another form is ignored. */
const TRACEPARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

/** W3C trace context of a request, when it carries one. */
export const traceparentOf = ({ headers }: IncomingMessage): string | undefined => {
  const { traceparent } = headers
  return typeof traceparent === 'string' && TRACEPARENT.test(traceparent) ? traceparent : undefined
}

/**
 * The process that calls, as the kernel reports it, for what belongs to a Unix user.
 * @param what needs it, for the sentence of the refusal
 * @throws DeputyError `malformed_request` over TCP
 */
export const unixPeerOf = async (
  request: IncomingMessage,
  { peer }: Pick<LocalApiDependencies, 'peer'>,
  what: string,
): Promise<PeerProcess> => {
  const caller = await peer(request)
  if (caller === undefined) throw refuse('malformed_request', { problem: `${what} need the Unix socket` })
  return caller
}

/** A request by its correlation id, with what proves its caller. @throws DeputyError of the category workload */
export const originOf = async (
  request: IncomingMessage,
  form: Form,
  { correlationId, peer }: { readonly correlationId: string } & Pick<LocalApiDependencies, 'peer'>,
): Promise<RequestOrigin> => {
  const traceparent = traceparentOf(request)
  return {
    correlationId,
    evidence: readEvidence(request, form, await peer(request)),
    ...(traceparent === undefined ? {} : { traceparent }),
  }
}
