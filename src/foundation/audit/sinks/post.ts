import type { Clock } from '#clock'
import { DeputyError } from '#errors'
import type { Secret } from '#foundation/crypto'
import { connectionProblem, type Egress, readRetryAfter, struck } from '#foundation/outbound'
import { DeliveryError } from './delivery.ts'

/** The longest answer of a receiver that is read (bytes). */
const MAX_ANSWER_BYTES = 65_536

/** How a receiver is reached over HTTP. */
export interface HttpReceiver {
  readonly url: string
  /** The guarded way out, with the certificates of the sink. Redirects are not followed. */
  readonly egress: Egress
  /** A header with a secret, read for each batch, so that a token may change. */
  readonly authorization: { readonly header: string; readonly read: () => Promise<Secret> } | undefined
  /** Others, without secrets. */
  readonly headers: Readonly<Record<string, string>>
  /** ms until the answer must be complete. */
  readonly timeout: number
  readonly clock: Clock
}

export interface Answer {
  readonly status: number
  readonly text: string
  /** The text for admins and the log, without what could be a secret. */
  readonly words: string
  readonly retryAfter: number | undefined
}

/** Sends one batch. @throws DeliveryError where there is no answer */
export const post = async (
  { url, egress, authorization, headers, timeout, clock }: HttpReceiver,
  body: string,
  contentType: string,
  signal: AbortSignal,
): Promise<Answer> => {
  const secret = await authorization?.read()
  // fetch would repeat the value in its error.
  if (secret !== undefined && !/^[\x20-\x7e]+$/.test(secret.reveal()))
    throw new DeliveryError('its token holds characters that no header can hold')
  try {
    const response = await egress(url, {
      method: 'POST',
      body,
      signal,
      timeout,
      redirects: 0,
      maxBytes: MAX_ANSWER_BYTES,
      headers: {
        ...headers,
        'content-type': contentType,
        ...(secret === undefined ? {} : { [authorization!.header]: secret.reveal() }),
      },
    })
    const text = await response.text()
    return {
      status: response.status,
      text,
      words: struck(
        secret === undefined ? text : text.replaceAll(secret.reveal(), '').replaceAll(tokenOf(secret), '***'),
      ),
      retryAfter: readRetryAfter(response.headers.get('retry-after'), clock.now()),
    }
  } catch (error) {
    throw new DeliveryError(problemIn(error))
  }
}

/** A receiver may repeat the token without the word before it. */
const tokenOf = (secret: Secret): string => secret.reveal().split(' ').at(-1)!

const problemIn = (error: unknown): string => {
  if (error instanceof DeputyError) return String(error.facts['problem'] ?? error.message)
  if (error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError'))
    return 'it gave no complete answer in time'
  return connectionProblem(error) ?? 'its answer is no HTTP, or was cut off'
}

/**
 * Statuses that say of the records themselves that they are not taken: RFC 9110 sections 15.5.1, 15.5.14 and 15.5.21.
 */
const REFUSES_CONTENT = new Set([400, 413, 422])

/** An answer that confirms nothing, by its status. */
export const unconfirmed = ({ status, words, retryAfter }: Answer): DeliveryError =>
  new DeliveryError(
    status >= 300 && status < 400
      ? `it answered with a redirect (${status}), which is not followed: write the address it leads to`
      : `it answered with status ${status}`,
    { refusesContent: REFUSES_CONTENT.has(status), retryAfter, answered: words },
  )
