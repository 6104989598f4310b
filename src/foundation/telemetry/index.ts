/** Logs, metrics and traces. Every room writes through these interfaces, and the daemon chooses where they go. */
export { consoleToLog } from './console.ts'
export { createCorrelation } from './correlation.ts'
export type { Logger } from './logger.ts'
export { createOpenTelemetry } from './opentelemetry.ts'
export { createOutageLog } from './outage.ts'
export { createLogger } from './pino-logger.ts'
export { noTelemetry, type Telemetry } from './telemetry.ts'
