import { DatagramError, sendDatagrams } from '#foundation/files'
import type { AuditRow } from '#foundation/store'
import { ALL_CONFIRMED, DeliveryError, type Delivery } from './delivery.ts'

/**
 * Messages of RFC 5424 as datagrams to a Unix socket such as /dev/log. The kernel puts them into the
 * queue of the receiver or refuses them: that is the confirmation, and a receiver that dies loses its queue.
 */
export const createUnixDatagrams = (
  of: Pick<Delivery, 'name' | 'limits'>,
  path: string,
  message: (row: AuditRow) => string,
): Delivery => ({
  ...of,
  async send(rows, signal) {
    try {
      await sendDatagrams(path, rows.map(message), signal)
    } catch (error) {
      throw error instanceof DatagramError
        ? new DeliveryError(error.message, { refusesContent: error.isTooLong })
        : error
    }
    return ALL_CONFIRMED
  },
  close: () => Promise.resolve(),
})
