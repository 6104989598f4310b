import type { IncomingMessage } from 'node:http'
import type { CurrentSnapshot } from '#config'
import { asDeputyError, type DeputyError } from '#errors'
import type { Exchange } from '#flows/exchange'
import type { RedactionCache, Upstream } from '#flows/injected-request'
import type { AuditLog } from '#foundation/audit'
import type { Proofs } from '#foundation/outbound'
import type { Logger } from '#foundation/telemetry'
import type { Attest, ExecSessions, PeerProcess } from '#identity/workload'
import type { Authority } from './authority.ts'
import type { Tunnel } from './tunnel.ts'

export interface ProxyDependencies {
  readonly snapshot: CurrentSnapshot
  readonly exchange: Exchange
  readonly attest: Attest
  /** For whom `deputy exec` has started the caller; undefined for others. */
  readonly startedFor: ExecSessions['startedFor']
  readonly audit: AuditLog
  readonly upstream: Upstream
  /** Of the keys that tokens are bound to. */
  readonly proofs: Proofs
  readonly authority: Authority
  /** The process at the other end of the connection; undefined over TCP. */
  readonly peer: (request: IncomingMessage) => Promise<PeerProcess | undefined>
  /** Runs a request as a span that follows the caller's. */
  readonly trace: <T>(
    origin: { traceparent: string | undefined; id: string },
    name: string,
    work: () => Promise<T>,
  ) => Promise<T>
  readonly correlationId: () => string
  readonly logger: Logger
  /** ms without a byte in either direction after which a WebSocket is closed. */
  readonly idleTimeout: number
  /** ms for the rest of the body of a request that is refused, for TLS in a tunnel, and to read the end of a connection. */
  readonly patience: number
}

/** What the requests of one listener share. */
export interface ProxyContext extends ProxyDependencies {
  /** The hosts under which the listener is known. */
  readonly hosts: ReadonlySet<string>
  /** The tunnels by the connections inside them. */
  readonly tunnels: WeakMap<object, Tunnel>
  readonly redactions: RedactionCache
}

/** What was thrown, as the error that the caller receives. Failures inside Deputy are logged with their cause. */
export const asRefusal = (
  thrown: unknown,
  correlationId: string,
  { logger }: Pick<ProxyDependencies, 'logger'>,
): DeputyError => {
  const error = asDeputyError(thrown)
  if (error.code === 'internal')
    logger.error({ err: error.cause, correlation_id: correlationId }, 'a request failed inside the proxy')
  else if (error.kind.status === 503)
    logger.debug({ err: error, correlation_id: correlationId }, 'a request was refused temporarily')
  return error
}
