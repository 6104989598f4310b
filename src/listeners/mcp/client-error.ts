import type { DeputyError } from '#errors'
import { DeputyClientError } from '#sdk/hosting'

/** An error as a program that calls Deputy receives it. */
export const asClientError = (error: DeputyError, correlationId: string): DeputyClientError =>
  new DeputyClientError(
    {
      reason: error.code,
      error: error.kind.oauth,
      message: error.message,
      next: error.next,
      retryAfter: error.retryAfter,
      correlationId,
      connectUrl: error.facts['connect_url'] === undefined ? undefined : String(error.facts['connect_url']),
    },
    { cause: error },
  )
