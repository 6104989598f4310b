import type { Clock } from '#clock'

/** A moment by both clocks of this machine (ms). */
export interface Moment {
  /** Never goes back, and goes on while the process is stopped. */
  readonly monotonic: number
  /** For machines that slept in between. */
  readonly wall: number
}

const NEVER: Moment = { monotonic: -Infinity, wall: -Infinity }

interface TermOptions {
  readonly clock: Clock
  readonly monotonic: () => number
  /** ms. */
  readonly lease: number
  /** ms. */
  readonly skew: number
}

/** Until when this node is a member. The term counts from before the renewal was sent, less the skew. */
export class MembershipTerm {
  readonly #options: TermOptions
  #until = NEVER

  constructor(options: TermOptions) {
    this.#options = options
  }

  now(): Moment {
    return { monotonic: this.#options.monotonic(), wall: this.#options.clock.now() }
  }

  isHeld(): boolean {
    const { monotonic, wall } = this.now()
    return monotonic < this.#until.monotonic && wall < this.#until.wall
  }

  end(): void {
    this.#until = NEVER
  }

  /**
   * Takes the term of a renewal that was granted.
   * @param storeTime what the store's clock said (ms since the epoch)
   * @returns why it was not taken; null where it was
   */
  take(sent: Moment, storeTime: number): string | null {
    const { clock, lease, skew } = this.#options
    // The store's clock was read between the sending and now: outside of that by more than the skew, ours is wrong.
    const off = Math.max(sent.wall - storeTime, storeTime - clock.now())
    if (off > skew) return `its clock and the store's are ${Math.round(off)} ms apart, and ${skew} ms are allowed`
    this.#until = {
      monotonic: Math.max(this.#until.monotonic, sent.monotonic + lease - skew),
      wall: Math.max(this.#until.wall, sent.wall + lease - skew),
    }
    return null
  }
}
