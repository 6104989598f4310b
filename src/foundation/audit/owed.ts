import type { Entry } from './format/chain.ts'
import { problemOfRow } from './continuity.ts'
import type { Placed } from './chains/chain-writer.ts'

/** Notes kept in memory about records that were refused after the store had them. */
const NOTES = 10_000

/** Notes that are written at once, at most. */
const BATCH = 512

/** Records that the log owes itself, while no caller waits for them: they are tried again until they are durable. */
export class OwedRecords {
  #unconfirmed: { readonly row: Placed; readonly problem: string }[] = []
  #entries: Entry[] = []

  get isEmpty(): boolean {
    return this.#unconfirmed.length === 0 && this.#entries.length === 0
  }

  /** Rows in the store whose callers were refused: they say more than happened. */
  addUnconfirmed(rows: readonly Placed[], problem: string): void {
    for (const row of rows)
      if (row.event !== 'audit.unconfirmed' && this.#unconfirmed.length < NOTES)
        this.#unconfirmed.push({ row, problem })
  }

  add(entry: Entry): void {
    this.#entries.push(entry)
  }

  /** What is to be written now; the caller gives back what could not be. */
  take(now: number): readonly Entry[] {
    const notes = this.#unconfirmed.splice(0, BATCH).map(({ row, problem }) => problemOfRow(row, problem, now))
    return [...this.#entries.splice(0), ...notes]
  }
}
