import { setTimeout as sleep } from 'node:timers/promises'
import { DeputyError } from '#errors'
import type { Position } from '#foundation/store'
import type { ClusterAcknowledgement, WriteChange } from './membership.ts'
import type { MembershipOptions } from './membership-options.ts'

/** The first and the longest pause between two looks at the nodes that have not acknowledged (ms); it grows by half. */
const MIN_PAUSE_MS = 2
const MAX_PAUSE_MS = 10

/** The pause between two tries of a write (ms). */
const RETRY_PAUSE_MS = 50

/** The changes that this node writes: each is above every change that it has applied, and is repeated until it is in the store. */
export class WrittenChanges {
  readonly #options: MembershipOptions
  /** The highest number of a change that was ever applied here: the store counts upwards. */
  #highest = 0
  #unseen: readonly Position[] = []

  constructor(options: MembershipOptions) {
    this.#options = options
  }

  /** Changes that this node has written and that no renewal has shown yet. */
  get unseen(): readonly Position[] {
    return this.#unseen
  }

  hasApplied({ number }: Position): void {
    this.#highest = Math.max(this.#highest, number)
  }

  /** A renewal has shown the changes up to this one. */
  seen(last: Position): void {
    this.#unseen = this.#unseen.filter(({ number }) => number > last.number)
  }

  /** The store had lost these changes, and `lookAgain` has written them again. */
  drop(changes: readonly Position[]): void {
    this.#unseen = this.#unseen.filter((change) => !changes.includes(change))
  }

  /** Repeats what the store does not answer, for as long as a confirmation waits for a node that is gone. */
  async #withinBound<T>(work: () => Promise<T>): Promise<T> {
    const { lease, skew, monotonic } = this.#options
    for (const until = monotonic() + lease + skew; ;) {
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof DeputyError && error.code === 'store_unavailable') || monotonic() > until) throw error
        await sleep(RETRY_PAUSE_MS)
      }
    }
  }

  async record(write: WriteChange): Promise<Position> {
    const change = await this.#recordAbove(this.#highest, write)
    this.#unseen = [...this.#unseen, change]
    return change
  }

  /**
   * Another program may have set the count of the store back. Nodes that have applied a higher number would pass the change over,
   * and what they have proved of themselves would pass for its acknowledgement: it is written again above that number.
   */
  async #recordAbove(known: number, write: WriteChange): Promise<Position> {
    const change = await this.#withinBound(write)
    if (change.number > known) return change
    await this.#withinBound(() => this.#options.store.liftNumber(known))
    return this.#withinBound(write)
  }

  async confirm(change: Position, write: WriteChange): Promise<ClusterAcknowledgement> {
    const { store, incarnation, lease, skew, monotonic, acknowledgements } = this.#options
    const isProven = acknowledgements.isProven
    const began = monotonic()
    let awaited = change
    for (let pause = MIN_PAUSE_MS; ; pause = Math.min(pause * 1.5, MAX_PAUSE_MS)) {
      const knowledge = await this.#withinBound(() =>
        store.whoKnows(awaited, { except: incarnation, lease, skew, isProven }),
      )
      const { acknowledged, waiting, expired, isLost, unsettled } = knowledge
      if (isLost) awaited = await this.record(write)
      else if (waiting.length === 0 && unsettled === 0)
        return { acknowledged: acknowledged.length, expired, milliseconds: Math.round(monotonic() - began) }
      await sleep(pause)
    }
  }
}
