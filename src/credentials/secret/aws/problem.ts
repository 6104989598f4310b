import { DeputyError, refuse } from '#errors'
import { connectionProblem, struck } from '#foundation/outbound'
import { CREDENTIALS_ERROR, NoCredentials } from './credentials.ts'

interface ServiceException extends Error {
  readonly $metadata: { readonly httpStatusCode?: number }
  readonly $fault?: string
}
const isServiceException = (error: unknown): error is ServiceException =>
  error instanceof Error && '$metadata' in error && '$fault' in error

/**
 * Names under which AWS services say: not now (https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html).
 */
const NOT_NOW =
  /^(Throttling|ThrottlingException|ThrottledException|RequestLimitExceeded|TooManyRequests.*|RequestTimeout.*|ServiceUnavailable.*|InternalServiceError|InternalFailure|InternalServerError|KMSInternalException|DependencyTimeoutException|KeyUnavailableException)$/
/** About the requests of one account; the others are about the service. */
const THROTTLED = /^(Throttl|RequestLimitExceeded|TooManyRequests)/
/** AWS answers them with 400. */
const DENIED = /^(AccessDenied|AccessDeniedException|NotAuthorized|UnauthorizedOperation)$/
/** They say that a request was cut or not sent; a wrong form of an answer has another name. */
const UNREADABLE = /^(SyntaxError|TypeError)$/

const MAX_WORDS = 200

/** An SDK error that no service has made, as a sentence. */
const problemOf = (error: unknown): string => {
  const name = error instanceof Error ? error.name : 'unknown'
  if (error instanceof NoCredentials) return `${error.problem}; the daemon's log has the words of AWS`
  if (name === CREDENTIALS_ERROR)
    return "the standard chain of the AWS SDK has found no credentials; the daemon's log has its words"
  if (name === 'TimeoutError') return 'it did not answer in time'
  return UNREADABLE.test(name)
    ? 'its answer is not what its documentation says'
    : (connectionProblem(error) ?? 'it could not be reached')
}

/** What an AWS SDK has thrown, as a sentence, and the words of AWS for admins. */
export const sdkProblem = (error: unknown): { readonly problem: string; readonly answered?: string } =>
  isServiceException(error)
    ? {
        problem: `${struck(error.name)} (${error.$metadata.httpStatusCode ?? 'no status'})`,
        answered: struck(error.message),
      }
    : { problem: problemOf(error) }

/**
 * What an AWS SDK has thrown, as an error of the taxonomy. Callers get the name of the exception; the audit record and
 * the
 * log have its message. A fault of the source of credentials is an outage: what was read before stays in use.
 */
export const awsProblem =
  (backend: string) =>
  (error: unknown): DeputyError => {
    if (error instanceof DeputyError) return error
    if (!isServiceException(error)) {
      const source = error instanceof NoCredentials ? error.cause : undefined
      const said = isServiceException(source)
        ? { answered: `${source.name}: ${source.message}`.slice(0, MAX_WORDS) }
        : {}
      return refuse('secret_backend_unavailable', { backend, problem: problemOf(error), ...said, whole: 'yes' }, error)
    }
    const words = error.message.slice(0, MAX_WORDS)
    const status = error.$metadata.httpStatusCode ?? 0
    // AWS redirects no call: what does stands before it.
    const isThrottled = THROTTLED.test(error.name) || status === 429
    const isAnothers = status >= 300 && status < 400
    if (status >= 500 || isThrottled || isAnothers || NOT_NOW.test(error.name))
      return refuse(
        'secret_backend_unavailable',
        {
          backend,
          problem: isThrottled ? `AWS is rate-limiting Deputy (${error.name})` : `${error.name} (${status})`,
          answered: words,
          ...(isThrottled ? {} : { whole: 'yes' }),
        },
        error,
      )
    return refuse(
      'secret_backend_refused',
      {
        backend,
        problem: error.name,
        answered: words,
        status: DENIED.test(error.name) ? 403 : status === 404 ? 404 : 400,
      },
      error,
    )
  }
