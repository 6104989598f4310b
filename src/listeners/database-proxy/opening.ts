import { setTimeout as sleep } from 'node:timers/promises'
import type { Socket } from 'node:net'
import type { Clock } from '#clock'
import { asDeputyError, type DeputyError, refuse } from '#errors'
import type { Exchange, OpenedConnection } from '#flows/exchange'
import type { Checkouts } from '#flows/rotation'
import type { AuditLog } from '#foundation/audit'
import type { Secret } from '#foundation/crypto'
import type { Logger } from '#foundation/telemetry'
import type { LiveSessionMonitor } from '#identity/validity'
import type { PeerProcess } from '#identity/workload'

/** What every kind of database needs of the daemon. */
export interface DatabaseProxyDependencies {
  readonly exchange: Pick<Exchange, 'connection'>
  readonly checkouts: Pick<Checkouts, 'forget'>
  readonly liveSessions: LiveSessionMonitor
  /** Extends a lease that is in use although its credential is not requested again. @returns whether the lease still holds */
  readonly touch: (lease: string) => Promise<boolean>
  /** The process that connected; undefined where the kernel does not name it. */
  readonly peer: (socket: Socket) => Promise<PeerProcess | undefined>
  readonly audit: AuditLog
  readonly clock: Clock
  readonly correlationId: () => string
  readonly logger: Logger
}

/**
 * A login that was rotated while it was being used, or that has ended at the server, is rejected: then the cached one
 * is dropped and the current one is fetched, after a pause.
 */
const MAX_ATTEMPTS = 3
const RETRY_PAUSE_MS = 250
/** Limits of how often a lease is extended (ms); between them, at half of the time for which it was given. */
const [MIN_LEASE_INTERVAL_MS, MAX_LEASE_INTERVAL_MS] = [500, 60_000]
/** The longest time that a timer takes. */
const MAX_TIMER_MS = 2 ** 31 - 1

export interface Opened<Login> {
  readonly login: Login
  readonly connection: OpenedConnection
}

/** A connection of a client, and the downstream that it names. */
export interface ConnectionRequest {
  readonly socket: Socket
  readonly downstream: string
  readonly correlationId: string
}

/** How a kind of database is logged in to. */
export interface LoginMethod<Login> {
  logIn(opened: OpenedConnection): Promise<Login>
  /** Whether the server has said that the login is wrong, or not valid any more. */
  isRejected(error: unknown): boolean
}

/**
 * Obtains the credential for a connection as its caller's, through the exchange, and logs in with it. For rotations it is
 * checked out until the login is done: from then on the connection does not depend on the secret.
 * @throws DeputyError
 */
export const openConnection = async <Login>(
  { socket, downstream, correlationId }: ConnectionRequest,
  { logIn, isRejected }: LoginMethod<Login>,
  deps: DatabaseProxyDependencies,
): Promise<Opened<Login>> => {
  const peer = await deps.peer(socket)
  if (peer === undefined) throw refuse('workload_unknown')
  let rejected: Secret | undefined
  for (let attempt = 1; ; attempt += 1) {
    // Each attempt has an audit record of its own.
    const id = attempt === 1 ? correlationId : `${correlationId}-${attempt}`
    const connection = await deps.exchange.connection({ correlationId: id, evidence: { peer } }, downstream, rejected)
    try {
      return { login: await logIn(connection), connection }
    } catch (error) {
      await recordFailure(id, connection, asDeputyError(error), deps)
      if (attempt === MAX_ATTEMPTS || !isRejected(error)) throw error
      rejected = connection.token
      await sleep(attempt * RETRY_PAUSE_MS)
    } finally {
      await deps.checkouts.forget(connection.holder).catch((error: unknown) => {
        deps.logger.warn({ err: error }, 'checkout release failed; it ends by its expiry')
      })
    }
  }
}

/** The credential had been used at its server when this failed, so `deputy explain` shows both records. */
const recordFailure = async (
  id: string,
  { dependsOn: { tenant, user, server }, downstream: { downstream } }: OpenedConnection,
  error: DeputyError,
  { audit, logger }: DatabaseProxyDependencies,
): Promise<void> => {
  await audit
    .append({
      id,
      event: 'connection.fail',
      outcome: 'failed',
      tenant,
      server,
      downstream,
      ...(user === undefined ? {} : { user }),
      detail: { error: { code: error.code, message: error.message, next: error.next, facts: error.facts } },
    })
    .catch((problem: unknown) => {
      logger.warn(
        { err: problem, correlation_id: id },
        'audit append failed; a failed database connection has no record',
      )
    })
}

/** Extends the lease of a connection for as long as it is open: a database may let a session continue whose login it has dropped. */
const extendLease = (
  lease: string,
  expiresAt: number,
  { touch, clock, logger }: Pick<DatabaseProxyDependencies, 'touch' | 'clock' | 'logger'>,
  end: (error: DeputyError) => void,
): NodeJS.Timeout => {
  const extend = async (): Promise<void> => {
    try {
      if (await touch(lease)) return
      clearInterval(timer)
      const revokedAt = new Date(clock.now()).toISOString()
      end(refuse('revoked', { scope: `the lease ${lease}, which has ended`, revoked_at: revokedAt }))
    } catch (error) {
      logger.warn({ err: error, lease }, 'lease renewal failed; the lease of an open connection may end')
    }
  }
  const timer = setInterval(
    () => {
      void extend()
    },
    Math.min(MAX_LEASE_INTERVAL_MS, Math.max(MIN_LEASE_INTERVAL_MS, (expiresAt - clock.now()) / 2)),
  )
  return timer.unref()
}

/**
 * Ends a connection when what it relies on ends: by a revocation, with its lease, at its expiry (promise 4).
 * @returns what stops the monitoring. @throws DeputyError when it has ended already
 */
export const monitorSession = (
  { connection: { dependsOn, lease, expiresAt, notAfter } }: Pick<Opened<unknown>, 'connection'>,
  deps: DatabaseProxyDependencies,
  end: (error: DeputyError) => void,
): (() => void) => {
  const forget = deps.liveSessions.add({ dependsOn, end })
  const timer = lease === undefined ? undefined : extendLease(lease, expiresAt, deps, end)
  const expiry =
    notAfter === Infinity
      ? undefined
      : setTimeout(
          () => {
            end(refuse('subject_token_expired', { expired_at: new Date(notAfter).toISOString() }))
          },
          Math.max(0, Math.min(MAX_TIMER_MS, notAfter - deps.clock.now())),
        )
  expiry?.unref()
  return () => {
    clearInterval(timer)
    clearTimeout(expiry)
    forget()
  }
}
