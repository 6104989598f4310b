/** What the daemon tells the service manager that has started it: sd_notify(3). */
import { sendDatagrams } from '#foundation/files'
import type { Logger } from '#foundation/telemetry'

export interface ServiceManager {
  /** The daemon serves. */
  ready(): Promise<void>
  /** It reads its configuration anew, until it is ready again. */
  reloading(): Promise<void>
  /** It ends. */
  stopping(): Promise<void>
}

interface ServiceManagerOptions {
  /** NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, where the manager wants to know. */
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly pid: number
  /** µs of the clock that never goes back. */
  readonly monotonicMicroseconds: () => bigint
  readonly logger: Logger
  readonly atEnd: (close: () => void) => void
}

/** ms that a message may wait for the queue of the manager. */
const PATIENCE_MS = 1000

const NO_MANAGER: ServiceManager = {
  ready: () => Promise.resolve(),
  reloading: () => Promise.resolve(),
  stopping: () => Promise.resolve(),
}

/** How often the watchdog wants to hear of this process (ms); undefined where it does not. */
const watchdogInterval = (
  { WATCHDOG_USEC: interval, WATCHDOG_PID: of }: ServiceManagerOptions['environment'],
  pid: number,
): number | undefined => {
  const microseconds = Number(interval)
  if (!(microseconds > 0) || (of !== undefined && Number(of) !== pid)) return undefined
  // Twice in its time, as sd_watchdog_enabled(3) advises.
  return microseconds / 2000
}

/**
 * Tells the service manager how the daemon is. A main thread that is stuck sends no sign of life, and the manager
 * starts the daemon anew. What the manager does not take is logged and stops nothing.
 */
export const createServiceManager = (options: ServiceManagerOptions): ServiceManager => {
  const { environment, pid, monotonicMicroseconds, logger, atEnd } = options
  const socket = environment['NOTIFY_SOCKET']
  if (socket === undefined || socket === '') return NO_MANAGER
  const tell = (...lines: readonly string[]): Promise<void> =>
    sendDatagrams(socket, [lines.join('\n')], AbortSignal.timeout(PATIENCE_MS)).catch((error: unknown) => {
      logger.warn({ err: error }, 'the service manager was not told')
    })
  const interval = watchdogInterval(environment, pid)
  if (interval !== undefined) {
    const timer = setInterval(() => void tell('WATCHDOG=1'), interval)
    timer.unref()
    atEnd(() => {
      clearInterval(timer)
    })
  }
  return {
    ready: () => tell('READY=1', 'STATUS=serving'),
    reloading: () =>
      tell('RELOADING=1', `MONOTONIC_USEC=${monotonicMicroseconds()}`, 'STATUS=reading the configuration'),
    stopping: () => tell('STOPPING=1', 'STATUS=finishing requests'),
  }
}
