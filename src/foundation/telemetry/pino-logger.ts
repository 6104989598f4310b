import { pino, type DestinationStream } from 'pino'
import type { Logger } from './logger.ts'

/**
 * Names under which a secret could come by into a log line. Values of type `Secret` print as `[secret]` anyway;
 * this catches what others log, such as the fields of a provider's answer in an error.
 */
const SECRET_NAMES = [
  'access_token',
  'refresh_token',
  'id_token',
  'subject_token',
  'actor_token',
  'token',
  'client_secret',
  'client_assertion',
  'code',
  'code_verifier',
  'password',
  'secret',
  'authorization',
  'cookie',
  'set-cookie',
]

const redacted = SECRET_NAMES.flatMap((name) =>
  ['', '*.', '*.*.', '*.*.*.'].map((depth) =>
    name.includes('-') ? `${depth === '' ? '' : depth.slice(0, -1)}["${name}"]` : `${depth}${name}`,
  ),
)

const ERROR_CODE = /^\w{1,64}$/

/**
 * An error's own `code` (ECONNREFUSED, an SQLSTATE) says what is wrong; everywhere else the name is that of an authorization
 * code. The type tells them apart, because redaction does not know the whole path of a value.
 */
class ErrorCode {
  readonly #code: string
  constructor(code: string) {
    this.#code = code
  }
  toJSON(): string {
    return this.#code
  }
}

const censor = (value: unknown): unknown => (value instanceof ErrorCode ? value : '[secret]')

/** Only the parts of an error that cannot hold a response body: its type, message, code and stack, and those of its causes, each once. */
const serializeError = (error: unknown): unknown => {
  if (!(error instanceof Error)) return error instanceof Object ? { type: error.constructor.name } : String(error)
  const { code, message, stack } = error as NodeJS.ErrnoException
  return {
    type: error.constructor.name,
    message,
    ...(typeof code === 'string' && ERROR_CODE.test(code) ? { code: new ErrorCode(code) } : {}),
    stack,
    ...(error.cause === undefined ? {} : { cause: serializeError(error.cause) }),
  }
}

/** Logs as JSON lines. @param destination default: standard output */
export const createLogger = (options: { level: string; destination?: DestinationStream }): Logger =>
  pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: 'message',
      redact: { paths: redacted, censor },
      serializers: { err: serializeError },
      formatters: { level: (label) => ({ level: label }) },
    },
    options.destination ?? pino.destination({ fd: 1, sync: true }),
  )
