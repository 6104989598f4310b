import type { DeputyError, ErrorCategory } from '#errors'
import { errorResponse } from './messages.ts'

/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const SQLSTATE: Readonly<Partial<Record<ErrorCategory, string>>> = {
  request: '08P01',
  workload: '28000',
  subject: '28000',
  grant: '28000',
  revocation: '28000',
  policy: '42501',
  target: '3D000',
}

const sqlstateOf = (error: DeputyError): string => {
  if (error.code === 'database_unreachable') return '08006'
  if (error.code === 'database_refused') return '08004'
  return SQLSTATE[error.kind.category] ?? (error.kind.retryable ? '57P03' : 'XX000')
}

/** admin_shutdown: for a client whose session was established. */
export const ADMIN_SHUTDOWN = '57P01'

/** A refusal as an ErrorResponse, with its next step as the hint. @param code SQLSTATE; default: by the error */
export const formatError = (error: DeputyError, correlationId: string, code = sqlstateOf(error)): Buffer =>
  errorResponse({
    code,
    message: `Deputy: ${error.message}`,
    hint:
      error.code === 'internal'
        ? `deputy explain ${correlationId}`
        : [error.next, ...('connect_url' in error.facts ? [String(error.facts['connect_url'])] : [])].join(' '),
    detail: `Correlation id ${correlationId}; deputy explain ${correlationId} shows its records.`,
  })
