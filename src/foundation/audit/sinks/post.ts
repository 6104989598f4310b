import type { Clock } from '#clock'
import { DeputyError } from '#errors'
import type { Secret } from '#foundation/crypto'
import { connectionProblem, type Egress, readRetryAfter } from '#foundation/outbound'
import { DeliveryError } from './delivery.ts'

/** The longest answer of a receiver that is read (bytes). */
const MAX_ANSWER_BYTES = 65_536

/** What of an answer goes into a sentence. */
const SHOWN = 200

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
  readonly retryAfter: number | undefined
}

/** What an answer says, for a sentence in the log: one short line without control characters. */
export const shown = (text: string): string => {
  // oxlint-disable-next-line no-control-regex
  const line = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim()
  return line.length > SHOWN ? `${line.slice(0, SHOWN)}…` : line
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
    return {
      status: response.status,
      text: await response.text(),
      retryAfter: readRetryAfter(response.headers.get('retry-after'), clock.now()),
    }
  } catch (error) {
    throw new DeliveryError(problemIn(error))
  }
}

const problemIn = (error: unknown): string => {
  if (error instanceof DeputyError) return String(error.facts['problem'] ?? error.message)
  if (error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError'))
    return 'it gave no complete answer in time'
  return connectionProblem(error) ?? 'its answer is no HTTP, or was cut off'
}

/** Statuses that say of the records themselves that they are not taken: RFC 9110 sections 15.5.1, 15.5.14 and 15.5.21. */
const REFUSES_CONTENT = new Set([400, 413, 422])

/** An answer that confirms nothing, by its status. */
export const unconfirmed = ({ status, text, retryAfter }: Answer): DeliveryError =>
  new DeliveryError(
    status >= 300 && status < 400
      ? `it answered with a redirect (${status}), which is not followed: write the address it leads to`
      : `it answered with status ${status}${text === '' ? '' : `: ${shown(text)}`}`,
    { refusesContent: REFUSES_CONTENT.has(status), retryAfter },
  )
