import { setTimeout as sleep } from 'node:timers/promises'
import type { Socket } from 'node:net'
import type { Clock } from '#clock'
import { asDeputyError, type DeputyError, refuse } from '#errors'
import type { Exchange, OpenedConnection } from '#flows/exchange'
import type { Checkouts } from '#flows/rotation'
import type { AuditLog } from '#foundation/audit'
import type { Logger } from '#foundation/telemetry'
import type { LiveSessionMonitor } from '#identity/validity'
import type { PeerProcess } from '#identity/workload'

/** What every kind of database needs of the daemon. */
export interface DatabaseProxyDependencies {
  readonly exchange: Pick<Exchange, 'connection'>
  readonly checkouts: Pick<Checkouts, 'forget'>
  readonly liveSessions: LiveSessionMonitor
  /** A lease is in use, though nobody asks for it again. @returns whether it goes on */
  readonly touch: (lease: string) => Promise<boolean>
  /** Who connected; undefined where the kernel does not say. */
  readonly peer: (socket: Socket) => Promise<PeerProcess | undefined>
  readonly audit: AuditLog
  readonly clock: Clock
  readonly correlationId: () => string
  readonly logger: Logger
}

/** A login that was rotated while it was on its way is not taken: then the next one is fetched, so often, after pauses (ms). */
const ATTEMPTS = 3
const PAUSE = 250
/** How often a lease is said to be in use (ms), or at half of the time for which it was given. */
const [SOONEST, LATEST] = [500, 60_000]
/** What a timer takes. */
const LONGEST = 2 ** 31 - 1

export interface Opened<Login> {
  readonly login: Login
  readonly connection: OpenedConnection
}

/**
 * Obtains the credential for a connection as its caller's, through the exchange, and logs in with it. It is held, as far as
 * rotations are concerned, until the login is done: from then on the connection goes on, whatever the secret is.
 * @param isNotTaken whether the server has said that the login is not right, or not any more
 * @throws DeputyError
 */
export const open = async <Login>(
  socket: Socket,
  downstream: string,
  correlationId: string,
  deps: DatabaseProxyDependencies,
  logIn: (opened: OpenedConnection) => Promise<Login>,
  isNotTaken: (error: unknown) => boolean,
): Promise<Opened<Login>> => {
  const peer = await deps.peer(socket)
  if (peer === undefined) throw refuse('workload_unknown')
  for (let attempt = 1; ; attempt += 1) {
    // Each attempt is an account of its own.
    const id = attempt === 1 ? correlationId : `${correlationId}-${attempt}`
    const connection = await deps.exchange.connection({ correlationId: id, evidence: { peer } }, downstream)
    try {
      return { login: await logIn(connection), connection }
    } catch (error) {
      await recordFailure(id, connection, asDeputyError(error), deps)
      if (attempt === ATTEMPTS || !isNotTaken(error)) throw error
      await sleep(attempt * PAUSE)
    } finally {
      await deps.checkouts.forget(connection.holder).catch((error: unknown) => {
        deps.logger.warn({ err: error }, 'it was not written down that a login is done; it is by its time')
      })
    }
  }
}

/** The credential had left for its server when this went wrong: `deputy explain` tells both. */
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
      logger.warn({ err: problem, correlation_id: id }, 'a connection that failed was not written down')
    })
}

/** Keeps what a connection lives on, and ends it when that ends (promise 4). @returns what to call when it is over. @throws DeputyError when it has ended by now */
export const live = (
  { connection: { dependsOn, lease, expiresAt, notAfter } }: Pick<Opened<unknown>, 'connection'>,
  deps: DatabaseProxyDependencies,
  end: (error: DeputyError) => void,
): (() => void) => {
  const forget = deps.liveSessions.add({ dependsOn, end })
  /** A database may let a session go on whose login it has dropped. */
  const keep = async (lived: string): Promise<void> => {
    try {
      if (await deps.touch(lived)) return
      clearInterval(timer)
      end(
        refuse('revoked', {
          scope: `the lease ${lived}, which has ended`,
          revoked_at: new Date(deps.clock.now()).toISOString(),
        }),
      )
    } catch (error) {
      deps.logger.warn({ err: error, lease: lived }, 'a lease that is in use was not kept')
    }
  }
  const timer =
    lease === undefined
      ? undefined
      : setInterval(
          () => {
            void keep(lease)
          },
          Math.min(LATEST, Math.max(SOONEST, (expiresAt - deps.clock.now()) / 2)),
        )
  const expiry =
    notAfter === Infinity
      ? undefined
      : setTimeout(
          () => {
            end(refuse('subject_token_expired', { expired_at: new Date(notAfter).toISOString() }))
          },
          Math.max(0, Math.min(LONGEST, notAfter - deps.clock.now())),
        )
  timer?.unref()
  expiry?.unref()
  return () => {
    clearInterval(timer)
    clearTimeout(expiry)
    forget()
  }
}
