import { resolve } from 'node:path'
import type { Clock, Random } from '#clock'
import { formatProblem, loadAtStart, type CurrentSnapshot, type Problem, type Settings } from '#config'
import { CurrentConfiguration, readConfiguration, type Shipped } from '#daemon/configuration'
import { refuse } from '#errors'
import { type Background, createBackground } from '#foundation/async'
import { createTimeOrderedIds } from '#foundation/crypto'
import {
  consoleToLog,
  createCorrelation,
  createLogger,
  createOpenTelemetry,
  createOutageLog,
  type Logger,
} from '#foundation/telemetry'

export interface DaemonOptions {
  /** The configuration folder. */
  readonly home: string
  readonly shipped: Shipped
  readonly version: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly random: Random
  /** Default: pino to standard output. */
  readonly logger?: Logger
  /** Tests end the process at points of a rotation. */
  readonly atFaultPoint?: (point: string) => void
}

/** What every stage of the start has at hand: the files in force, time, randomness, the log, and the end of the daemon. */
export interface DaemonContext {
  readonly home: string
  readonly version: string
  readonly environment: DaemonOptions['environment']
  readonly clock: Clock
  readonly random: Random
  readonly atFaultPoint: DaemonOptions['atFaultPoint']
  readonly configuration: CurrentConfiguration
  readonly snapshot: CurrentSnapshot
  readonly settings: Settings
  readonly logger: Logger
  /** Of a shared store: one line when it goes away and one when it is back. Undefined for the embedded store. */
  readonly outages: ReturnType<typeof createOutageLog> | undefined
  readonly observed: Awaited<ReturnType<typeof createOpenTelemetry>>
  readonly correlation: ReturnType<typeof createCorrelation>
  readonly background: Background
  /** An id for a record, a request or a process. It sorts by its time, and is no secret. */
  readonly newId: () => string
  /** Runs at the end of the daemon, the latest first. What does not close is logged, and the others close all the same. */
  readonly atEnd: (close: () => Promise<void> | void) => void
}

/** Where a shared store is, as an operator knows it. */
const nameOf = ({ postgres: { host, port, database } }: Exclude<Settings['store'], 'embedded'>): string =>
  `postgres ${host}:${port}/${database}`

export const warn = (logger: Logger, warnings: readonly Problem[]): void => {
  for (const { message, ...where } of warnings) logger.warn(where, message)
}

/**
 * Reads the configuration folder, and opens the log and the telemetry that it asks for.
 * @param stack what is opened is closed with it
 * @throws DeputyError `config_invalid`
 */
export const createContext = async (options: DaemonOptions, stack: AsyncDisposableStack): Promise<DaemonContext> => {
  const { version, environment, clock, random, atFaultPoint } = options
  const home = resolve(options.home)
  const read = await readConfiguration({ home, shipped: options.shipped, generation: 1, load: loadAtStart })
  if (read.configuration === undefined)
    throw refuse('config_invalid', { problem: read.problems.map(formatProblem).join('\n').replace(/\.$/, '') })
  const configuration = new CurrentConfiguration(read.configuration, options.shipped)
  const { snapshot } = configuration
  const { settings } = snapshot()
  const plainLogger = options.logger ?? createLogger({ level: settings.log.level })
  if (options.logger === undefined) consoleToLog(plainLogger)
  const outages =
    settings.store === 'embedded'
      ? undefined
      : createOutageLog({ logger: plainLogger, store: nameOf(settings.store), elapsed: () => performance.now() })
  const logger = outages?.logger ?? plainLogger
  warn(logger, read.warnings)
  const atEnd: DaemonContext['atEnd'] = (close) => {
    stack.defer(async () => {
      try {
        await close()
      } catch (error) {
        logger.error({ err: error }, 'a part of the daemon did not close cleanly')
      }
    })
  }
  const observed = await createOpenTelemetry({
    version,
    otlp: settings.telemetry.otlp,
    tenantLabel: settings.telemetry.tenant_label,
  })
  atEnd(() => observed.shutdown())
  return {
    home,
    version,
    environment,
    clock,
    random,
    atFaultPoint,
    configuration,
    snapshot,
    settings,
    logger,
    outages,
    observed,
    correlation: createCorrelation(),
    background: createBackground((problem, error) => {
      logger.error({ err: error }, problem)
    }),
    newId: createTimeOrderedIds({ clock, random }),
    atEnd,
  }
}
