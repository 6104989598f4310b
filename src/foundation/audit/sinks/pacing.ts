/** Waits of a sink whose receiver fails: each twice as long as the one before, or as long as the receiver asks for. */
export class Pacing {
  readonly #options: PacingOptions
  #failures = 0
  #next = 0

  constructor(options: PacingOptions) {
    this.#options = options
  }

  /** ms until the receiver may be asked again. */
  get wait(): number {
    return Math.max(0, this.#next - this.#options.monotonic())
  }

  /** @param retryAfter ms that the receiver asks for; it is not made to wait longer than `longestAsked` */
  failed(retryAfter?: number): void {
    const { first, longest, longestAsked, monotonic, random } = this.#options
    const own = Math.min(longest, first * 2 ** Math.min(this.#failures, 30)) * (0.5 + random() / 2)
    this.#failures += 1
    this.#next = monotonic() + Math.max(own, Math.min(retryAfter ?? 0, longestAsked))
  }

  succeeded(): void {
    this.#failures = 0
    this.#next = 0
  }
}

export interface PacingOptions {
  /** ms. */
  readonly first: number
  readonly longest: number
  readonly longestAsked: number
  readonly monotonic: () => number
  /** From 0 to 1: nodes that lost one receiver together do not come back to it together. */
  readonly random: () => number
}

/** No receiver holds up records for longer by asking for it (ms). */
export const LONGEST_ASKED_MS = 300_000
