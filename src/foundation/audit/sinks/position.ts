import type { AuditPositionStore, AuditStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { Head } from '../format/chain.ts'
import { prevOf } from '../continuity.ts'

/** Before the first record of a chain. */
export const BEFORE_ALL: Head = { seq: 0, hash: '' }

/**
 * How often a position is written at most (ms): after a crash as many records come twice as were confirmed in that
 * time.
 */
const WRITE_INTERVAL_MS = 2000

/** What a sink has to remember beside its position, as a text. */
export interface Mark {
  /** As of the last record that was confirmed. */
  readonly read: () => string
  readonly restore: (text: string) => void
}

export interface PositionOptions {
  /** The sink's name in the settings. */
  readonly sink: string
  readonly store: AuditStore
  readonly positions: AuditPositionStore
  /** Proves that this installation wrote a text. */
  readonly prove: (text: string) => string
  /** Where a sink begins that has no position yet. */
  readonly backfill: 'start' | 'now'
  /** The last record that the receiver keeps, where it can be asked. */
  readonly own?: (() => Promise<Head | undefined>) | undefined
  /** What the sink has to remember beside. */
  readonly mark?: Mark | undefined
  /** How often it is written at most (ms). */
  readonly interval?: number
  readonly logger: Logger
}

/**
 * What a position's proof covers. Without it, who can write the store could move a position forward, and the records
 * between would never reach the sink.
 */
const positionText = (node: string, sink: string, { seq, hash, mark }: Head & { readonly mark: string }): string =>
  `audit sink position\n${JSON.stringify([node, sink, seq, hash, mark])}`

/**
 * Up to where a sink has confirmed the chain of this node. It is written to the store after the confirmation, now and
 * then and at the end, so that it is never ahead of what was confirmed.
 */
export class SinkPosition {
  readonly #options: PositionOptions
  #confirmed: Head | undefined
  #written: Head | undefined
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()

  constructor(options: PositionOptions) {
    this.#options = options
  }

  /** Undefined until `begin` has found it. */
  get confirmed(): Head | undefined {
    return this.#confirmed
  }

  /** Where to go on. @throws Error with a sentence, where the position is not in the chain or was altered */
  async begin(): Promise<Head> {
    const { store } = this.#options
    // A receiver that keeps the records itself may have more than was confirmed in time.
    const found = (await this.#options.own?.()) ?? this.#confirmed ?? (await this.#find())
    this.#confirmed = await assertContinues(store, found)
    return this.#confirmed
  }

  confirm({ seq, hash }: Head): void {
    this.#confirmed = { seq, hash }
    this.#timer ??= setTimeout(() => {
      void this.flush()
    }, this.#options.interval ?? WRITE_INTERVAL_MS)
    this.#timer.unref()
  }

  /** Writes the position. It does not fail: without it records come twice after a restart, and none is missing. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#writing = this.#writing.then(() => this.#write())
    await this.#writing
  }

  async #find(): Promise<Head> {
    const { sink, store, positions, prove, backfill } = this.#options
    const found = await positions.find(sink)
    if (found !== undefined) {
      if (prove(positionText(store.node, sink, found)) !== found.proof)
        throw new Error(
          `its position in the store was altered, or was written by another installation; give the sink another name in deputy.yaml, so that it begins anew`,
        )
      this.#options.mark?.restore(found.mark)
      this.#written = { seq: found.seq, hash: found.hash }
      return this.#written
    }
    if (backfill === 'start') return BEFORE_ALL
    const now = (await store.head()) ?? BEFORE_ALL
    // At once: a daemon that ends before the first confirmation would otherwise begin later the next time.
    this.#confirmed = now
    await this.#write()
    return now
  }

  async #write(): Promise<void> {
    const { sink, store, positions, prove, logger } = this.#options
    const head = this.#confirmed
    if (head === undefined || head.seq === this.#written?.seq) return
    const kept = { ...head, mark: this.#options.mark?.read() ?? '' }
    try {
      await positions.put(sink, { ...kept, proof: prove(positionText(store.node, sink, kept)) })
      this.#written = head
    } catch (error) {
      logger.debug({ err: error, sink }, 'the position of an audit sink was not written; it is written later')
    }
  }
}

/**
 * Whether a record is in the store's chain, or the oldest one that is left follows it: retention removes whole
 * beginnings.
 */
export const isInChain = async (store: AuditStore, { seq, hash }: Head): Promise<boolean> => {
  const [first] = await store.query({ afterSeq: seq - 1 }, { limit: 1 })
  if (first === undefined) return false
  return first.seq === seq ? first.hash === hash : first.seq === seq + 1 && prevOf(first) === hash
}

/**
 * Compares a position with the chain.
 * @returns the position; for a sink that begins where retention has removed the oldest records, the one before the
 * first that is left
 * @throws Error with a sentence
 */
const assertContinues = async (store: AuditStore, position: Head): Promise<Head> => {
  if (position.seq === 0) {
    const [first] = await store.query({ afterSeq: 0 }, { limit: 1 })
    return first === undefined ? BEFORE_ALL : { seq: first.seq - 1, hash: prevOf(first) }
  }
  if (await isInChain(store, position)) return position
  throw new Error(
    `the last record that it confirmed, ${position.seq}, is not in the store's chain: the store was cut short or restored, or the records after it were removed before the sink had them; compare the receiver with the store (deputy audit verify), then give the sink another name in deputy.yaml, so that it begins anew; a file or an archive of segments also needs another path`,
  )
}
