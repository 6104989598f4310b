import { z } from 'zod'
import type { AuditRow } from '#foundation/store'
import { ALL_CONFIRMED, DeliveryError, type Delivery } from './delivery.ts'
import type { ToDocument } from './document.ts'
import { post, unconfirmed, type HttpReceiver } from './post.ts'

export interface SplunkOptions {
  readonly index: string | undefined
  readonly sourcetype: string
  readonly node: string
  readonly document: ToDocument
}

/**
 * https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector: objects one after the
 * other, no array.
 */
const toEvent = (row: AuditRow, { index, sourcetype, node, document }: SplunkOptions): string =>
  JSON.stringify({ time: row.at / 1000, host: node, source: 'deputy', sourcetype, index, event: document(row) })

const answerSchema = z.object({ code: z.int() })

const codeOf = (text: string): z.output<typeof answerSchema> | undefined => {
  try {
    return answerSchema.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}

/**
 * Codes about the events of a request; the others are about the token, the index or the server. 5: no data, 6: invalid
 * data format, 12 and 13: no or an empty event, 15: error in the handling of indexed fields.
 * https://docs.splunk.com/Documentation/Splunk/latest/Data/TroubleshootHTTPEventCollector
 */
const REFUSES_CONTENT = new Set([5, 6, 12, 13, 15])

/**
 * The HTTP Event Collector of Splunk. Only status 200 with the code 0 in the answer confirms: a proxy before the
 * collector may answer 200 by itself.
 */
export const createSplunkDelivery = (
  of: Pick<Delivery, 'name' | 'limits'>,
  receiver: HttpReceiver,
  options: SplunkOptions,
): Delivery => ({
  ...of,
  async send(rows, signal) {
    const body = rows.map((row) => toEvent(row, options)).join('\n')
    const answer = await post(receiver, body, 'application/json', signal)
    const said = codeOf(answer.text)
    if (answer.status === 200 && said?.code === 0) return ALL_CONFIRMED
    const { status, words: answered, retryAfter } = answer
    if (said === undefined)
      throw new DeliveryError(
        status === 200
          ? 'it answered with status 200, and not as an HTTP Event Collector'
          : unconfirmed(answer).message,
        { refusesContent: status === 413, retryAfter, answered },
      )
    throw new DeliveryError(`it answered with status ${status} and code ${said.code}`, {
      refusesContent: REFUSES_CONTENT.has(said.code) || status === 413,
      retryAfter,
      answered,
    })
  },
  close: () => Promise.resolve(),
})
