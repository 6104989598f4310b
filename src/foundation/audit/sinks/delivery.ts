import type { AuditRow } from '#foundation/store'
import type { Head } from '../format/chain.ts'
import type { Mark } from './position.ts'

/** What goes into one request at most. A record that is longer goes alone. */
export interface BatchLimits {
  readonly records: number
  /** Of the records' canonical texts, about. */
  readonly bytes: number
}

/** What a receiver has confirmed of a batch. */
export interface Confirmation {
  /** Records that it says it will not keep, although it answered for the batch as a whole. */
  readonly rejected: number
  readonly problem?: string
}

export const ALL_CONFIRMED: Confirmation = { rejected: 0 }

/** The way to one receiver of audit records. */
export interface Delivery {
  /** Its kind and the name that the settings give it. */
  readonly name: string
  readonly limits: BatchLimits
  /**
   * Resolves when the receiver has confirmed the batch; ends soon after `signal` is aborted.
   * @throws DeliveryError, and errors of connections
   */
  send(rows: readonly AuditRow[], signal: AbortSignal): Promise<Confirmation>
  /** ms that the first record of a batch waits for others; default: a moment. */
  readonly linger?: number
  /** What of these rows, which may be the start of more, can go now. */
  cut?(rows: readonly AuditRow[], isFull: boolean): Promise<readonly AuditRow[]>
  /** What has to be remembered with the position. */
  readonly mark?: Mark
  /** The last record that the receiver keeps, where it can be asked; undefined when it is empty. */
  head?(): Promise<Head | undefined>
  close(): Promise<void>
}

/** Why a receiver did not confirm a batch. The message is Deputy's own: callers of a required sink get it. */
export class DeliveryError extends Error {
  /** The receiver understood the request and refuses these records: they are refused again if they are sent again. */
  readonly refusesContent: boolean
  /** ms after which it may be asked again, where it says so. */
  readonly retryAfter: number | undefined
  /** The receiver's words with secrets struck out, for admins and the log alone. */
  readonly answered: string | undefined

  constructor(message: string, { refusesContent = false, retryAfter, answered }: DeliveryErrorOptions = {}) {
    super(message)
    this.refusesContent = refusesContent
    this.retryAfter = retryAfter
    this.answered = answered === '' ? undefined : answered
  }
}

interface DeliveryErrorOptions {
  readonly refusesContent?: boolean
  readonly retryAfter?: number | undefined
  readonly answered?: string | undefined
}

export const answeredIn = (error: unknown): string | undefined =>
  error instanceof DeliveryError ? error.answered : undefined

/** The first rows that fit into one request, at least one. */
export const firstBatch = (rows: readonly AuditRow[], { records, bytes }: BatchLimits): readonly AuditRow[] => {
  let size = 0
  const end = rows.findIndex(({ body }, at) => at >= records || ((size += body.length) > bytes && at > 0))
  return end < 0 ? rows : rows.slice(0, end)
}

/** Records that are refused one by one before the receiver counts as one that refuses everything. */
const MAX_REFUSED = 8

/** What became of rows. */
export interface Delivered {
  /** Those that the receiver refuses, and how many others it says it will not keep. */
  readonly refused: readonly AuditRow[]
  readonly rejected: number
  /** For admins and the log alone. */
  readonly problem: string | undefined
}

/**
 * Sends rows in their order. What the receiver refuses is divided until the records that it refuses are alone: they are
 * passed over, so that who can bring about one such record cannot hide all that follow. A receiver that refuses
 * everything is broken, and nothing is passed over: a record counts as refused only where another one is accepted
 * beside it.
 * @param confirmed called with each row up to which everything is confirmed or refused
 * @throws DeliveryError, and errors of connections
 */
export const deliver = async (
  { limits, send }: Pick<Delivery, 'limits' | 'send'>,
  rows: readonly AuditRow[],
  signal: AbortSignal,
  confirmed: (row: AuditRow) => void,
): Promise<Delivered> => {
  const refused: AuditRow[] = []
  let [accepted, rejected] = [0, 0]
  let problem: string | undefined
  let refusal: DeliveryError | undefined
  const walk = async (part: readonly AuditRow[]): Promise<void> => {
    try {
      const outcome = await send(part, signal)
      accepted += part.length
      rejected += outcome.rejected
      problem ??= outcome.problem
      confirmed(part.at(-1)!)
      return
    } catch (error) {
      if (!(error instanceof DeliveryError && error.refusesContent)) throw error
      refusal ??= error
      if (part.length === 1) {
        refused.push(part[0]!)
        if (accepted === 0 && refused.length >= MAX_REFUSED) throw refusesAll(error)
        return
      }
    }
    const half = part.length >> 1
    await walk(part.slice(0, half))
    await walk(part.slice(half))
  }
  for (let rest = rows; rest.length > 0;) {
    const batch = firstBatch(rest, limits)
    await walk(batch)
    rest = rest.slice(batch.length)
  }
  if (refusal !== undefined && accepted === 0) throw refusesAll(refusal)
  const last = rows.at(-1)
  if (last !== undefined) confirmed(last)
  const words = [refusal?.message, refusal?.answered, problem].filter((each) => each !== undefined)
  return { refused, rejected, problem: words.length === 0 ? undefined : words.join(': ') }
}

const refusesAll = ({ message, answered }: DeliveryError): DeliveryError =>
  new DeliveryError(`it accepts no record: ${message}`, { answered })
