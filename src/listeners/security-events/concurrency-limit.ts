/** Limits concurrent work: in total, and lower for each party, so that a slow party does not hold up the others. */
export class ConcurrencyLimit {
  readonly #total: number
  readonly #each: number
  readonly #taken = new Map<string, number>()
  #all = 0
  constructor({ total, each }: { readonly total: number; readonly each: number }) {
    this.#total = total
    this.#each = each
  }

  /** @returns what releases the slot, to be called once; undefined when the limit is reached */
  acquire(party: string): (() => void) | undefined {
    const taken = this.#taken.get(party) ?? 0
    if (this.#all >= this.#total || taken >= this.#each) return undefined
    this.#all += 1
    this.#taken.set(party, taken + 1)
    return () => {
      this.#all -= 1
      const left = this.#taken.get(party)! - 1
      if (left === 0) this.#taken.delete(party)
      else this.#taken.set(party, left)
    }
  }
}
