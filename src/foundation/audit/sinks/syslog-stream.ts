import { once } from 'node:events'
import { connect, type LookupFunction, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls, type ConnectionOptions } from 'node:tls'
import type { AuditRow } from '#foundation/store'
import { ALL_CONFIRMED, DeliveryError, type Delivery } from './delivery.ts'

/** Where a receiver of syslog listens. */
export type SyslogPlace =
  | { readonly socket: string }
  | {
      readonly host: string
      readonly port: number
      /** What can be said about the address before it is looked up. @throws DeputyError `egress_refused` */
      readonly assertReachable: () => void
      readonly lookup: LookupFunction
      /** Undefined: without TLS. Read for each connection. */
      readonly tls: (() => ConnectionOptions) | undefined
    }

/** The pause before the end of a batch is as long as the connection took, at most (ms). */
const LONGEST_PAUSE_MS = 500

const open = (place: SyslogPlace): Socket => {
  if ('socket' in place) return connect({ path: place.socket })
  place.assertReachable()
  const { host, port, lookup, tls } = place
  if (tls === undefined) return connect({ host, port, lookup })
  return connectTls({ host, port, lookup, minVersion: 'TLSv1.2', ...tls() })
}

/**
 * Sends a batch over a connection of its own, and takes its orderly end for the confirmation. Syslog has no
 * acknowledgement, and a write that succeeds says only that the kernel has the bytes. But a receiver that has read
 * everything up to our end of the connection ends it as well; one that closes or dies before that resets it (RFC 9293
 * section 3.10.4), or ends it too early. An end that comes within a round trip of the last byte may have been sent
 * before that byte arrived, so that the batch is ended a round trip later.
 * @throws DeliveryError, and errors of connections
 */
const sendBatch = async (place: SyslogPlace, text: string, signal: AbortSignal): Promise<void> => {
  const began = performance.now()
  const socket = open(place)
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>()
  ended.catch(() => undefined)
  let isComplete = false
  const stop = (): void => {
    reject(
      new DeliveryError(
        isComplete ? 'it did not end the connection after the batch' : 'it did not take the batch in time',
      ),
    )
  }
  // What it sends is of no use: it is read, so that its end is seen, and dropped.
  socket.on('error', reject).on('data', () => undefined)
  socket.on('end', () => {
    if (isComplete) resolve()
    else reject(new DeliveryError('it closed the connection before the end of the batch'))
  })
  socket.on('close', () => {
    reject(new DeliveryError('it closed the connection'))
  })
  signal.addEventListener('abort', stop)
  /** Or the end of the connection, where that comes first. */
  const step = (work: Promise<unknown>): Promise<unknown> => Promise.race([work, ended])
  try {
    const isTls = !('socket' in place) && place.tls !== undefined
    await step(once(socket, isTls ? 'secureConnect' : 'connect'))
    const roundTrip = Math.min(LONGEST_PAUSE_MS, performance.now() - began)
    await step(
      new Promise<void>((written) => {
        socket.write(text, () => {
          written()
        })
      }),
    )
    await step(sleep(roundTrip))
    isComplete = true
    socket.end()
    await ended
  } finally {
    signal.removeEventListener('abort', stop)
    socket.destroy()
  }
}

/**
 * Messages of RFC 5424 over TCP, TLS (RFC 5425) or a Unix socket. @param frame one message as it goes over the stream
 */
export const createSyslogStream = (
  of: Pick<Delivery, 'name' | 'limits'>,
  place: SyslogPlace,
  message: (row: AuditRow) => string,
  frame: (message: string) => string,
): Delivery => ({
  ...of,
  async send(rows, signal) {
    await sendBatch(place, rows.map((row) => frame(message(row))).join(''), signal)
    return ALL_CONFIRMED
  },
  close: () => Promise.resolve(),
})
