import { DeputyError, refuse } from '../../errors.ts'

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

/** What an AWS SDK has thrown, as an error of the taxonomy. The name of the exception is said, its message only where AWS says why it refused. */
export const awsProblem =
  (backend: string) =>
  (error: unknown): DeputyError => {
    if (error instanceof DeputyError) return error
    if (!isServiceException(error)) {
      const name = error instanceof Error ? error.name : 'unknown'
      if (name === 'CredentialsProviderError')
        return refuse(
          'secret_backend_refused',
          { backend, problem: 'the standard chain of the AWS SDK has found no credentials' },
          error,
        )
      return refuse(
        'secret_backend_unavailable',
        { backend, problem: name === 'TimeoutError' ? 'it did not answer in time' : 'it could not be reached' },
        error,
      )
    }
    const status = error.$metadata.httpStatusCode ?? 0
    if (status >= 500 || NOT_NOW.test(error.name))
      return refuse('secret_backend_unavailable', { backend, problem: `${error.name} (${status})` }, error)
    return refuse(
      'secret_backend_refused',
      { backend, problem: `${error.name}: ${error.message.slice(0, 200)}` },
      error,
    )
  }
