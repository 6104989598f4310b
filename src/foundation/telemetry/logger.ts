/** The part of pino's logger that the rooms use. */
export interface Logger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Logs nowhere; for tests of single rooms. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} }
