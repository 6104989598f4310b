import type { AuditRow } from '#foundation/store'
import { ALL_CONFIRMED, type Delivery } from './delivery.ts'
import type { ToDocument } from './document.ts'
import { post, unconfirmed, type HttpReceiver } from './post.ts'

const BODIES = {
  json: {
    type: 'application/json',
    of: (rows: readonly AuditRow[], document: ToDocument) => JSON.stringify(rows.map(document)),
  },
  ndjson: {
    type: 'application/x-ndjson',
    of: (rows: readonly AuditRow[], document: ToDocument) =>
      rows.map((row) => `${JSON.stringify(document(row))}\n`).join(''),
  },
} as const

/**
 * Batches of JSON documents by POST: an array, or one document a line. Any status from 200 to 299 confirms the whole
 * batch.
 */
export const createHttpDelivery = (
  of: Pick<Delivery, 'name' | 'limits'>,
  receiver: HttpReceiver,
  format: keyof typeof BODIES,
  document: ToDocument,
): Delivery => ({
  ...of,
  async send(rows, signal) {
    const answer = await post(receiver, BODIES[format].of(rows, document), BODIES[format].type, signal)
    if (answer.status < 200 || answer.status > 299) throw unconfirmed(answer)
    return ALL_CONFIRMED
  },
  close: () => Promise.resolve(),
})
