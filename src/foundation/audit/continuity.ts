import { z } from 'zod'
import type { AuditCheckpoint, AuditRow, AuditStore } from '#foundation/store'
import type { Columns, Entry, Head } from './format/chain.ts'

/** What a record `store.lost` of the audit log says about records that the store had confirmed and has no more. */
export interface LostRecords {
  /** Where the store's chain ended, and where the node knows that it had ended. */
  readonly stored: Head
  readonly confirmed: Head
  /** How many records the node still had in memory and has written again. */
  readonly writtenAgain: number
  /** The records that are gone; null where all of them were written again. */
  readonly gone: Gap | null
  /** The store has other records in the place of the node's: another process wrote under its name. */
  readonly forked: boolean
}

/** Records `from` to `to` are missing: `after` is the hash of the one before them, `before` the hash that the next one follows. */
export const gapSchema = z.object({ from: z.number(), to: z.number(), after: z.string(), before: z.string() })
export type Gap = Readonly<z.output<typeof gapSchema>>
/** Records that were removed after their time: `before` is the hash of the last of them. */
export type Range = Gap

/** What the proof of a gap covers: the chain needs no key, so who can write the store could write such a record, too. */
export const gapText = (node: string, { from, to, after, before }: Gap): string =>
  `lost records\n${JSON.stringify([node, from, to, after, before])}`

/** What the proof covers of records that were removed after their time. */
export const removedText = (node: string, { from, to, after, before }: Range): string =>
  `removed records\n${JSON.stringify([node, from, to, after, before])}`

/**
 * The last confirmed rows of a chain and their checkpoints, in memory: what the store loses is written again from here.
 */
export class RecentRows {
  readonly #bytes: number
  #rows: AuditRow[] = []
  #checkpoints: AuditCheckpoint[] = []
  #size = 0

  /** @param bytes of bodies that are kept, about; 0: none */
  constructor(bytes: number) {
    this.#bytes = bytes
  }

  get rows(): readonly AuditRow[] {
    return this.#rows
  }

  get checkpoints(): readonly AuditCheckpoint[] {
    return this.#checkpoints
  }

  addCheckpoint(checkpoint: AuditCheckpoint): void {
    if (this.#bytes > 0) this.#checkpoints.push(checkpoint)
  }

  add(rows: readonly AuditRow[]): void {
    if (this.#bytes === 0) return
    for (const row of rows) {
      this.#rows.push(row)
      this.#size += row.body.length
    }
    if (this.#size <= 2 * this.#bytes) return
    let dropped = 0
    for (; this.#size > this.#bytes && dropped < this.#rows.length - 1; dropped += 1)
      this.#size -= this.#rows[dropped]!.body.length
    this.#rows = this.#rows.slice(dropped)
    const first = this.#rows[0]?.seq ?? 0
    this.#checkpoints = this.#checkpoints.filter(({ seq }) => seq >= first)
  }

  clear(): void {
    this.#rows = []
    this.#checkpoints = []
    this.#size = 0
  }
}

/**
 * How a store's chain compares with what this process knows of it. `whole`: it has all that was confirmed, then what `landed` of
 * the rows in doubt. `followed`: and then rows of another process. `lost`: it ends before what it had confirmed. `forked`: it has
 * other rows there.
 */
export type Comparison =
  | { readonly kind: 'whole' | 'followed'; readonly stored: Head; readonly landed: readonly AuditRow[] }
  | { readonly kind: 'lost'; readonly stored: Head }
  | { readonly kind: 'forked'; readonly stored: Head; readonly missing: readonly AuditRow[] }

const rowAt = async (store: AuditStore, seq: number): Promise<AuditRow | undefined> => {
  const [row] = await store.query({ afterSeq: seq - 1 }, { limit: 1 })
  return row?.seq === seq ? row : undefined
}

/**
 * Compares by hashes, never by numbers: where another process wrote, or commits were lost, a number says nothing.
 * @param known.head the last row that the store has confirmed
 * @param known.genesis where the chain begins
 * @param doubtful rows that were sent after it, and whose fate is not known
 */
export const compareChain = async (
  store: AuditStore,
  { head, genesis }: { readonly head: Head; readonly genesis: Head },
  doubtful: readonly AuditRow[],
  kept: readonly AuditRow[],
): Promise<Comparison> => {
  const stored = (await store.head()) ?? genesis
  const last = doubtful.findIndex(({ hash }) => hash === stored.hash)
  if (stored.hash === head.hash || last >= 0) return { kind: 'whole', stored, landed: doubtful.slice(0, last + 1) }
  if (head.seq === 0 || (await rowAt(store, head.seq))?.hash === head.hash) {
    const after = await store.query({ afterSeq: head.seq }, { limit: Math.max(1, doubtful.length) })
    const hashes = new Set(after.map(({ hash }) => hash))
    return { kind: 'followed', stored, landed: doubtful.filter(({ hash }) => hashes.has(hash)) }
  }
  const own = [...kept, ...doubtful].find(({ seq }) => seq === stored.seq)
  const isFork = stored.seq >= head.seq || (own !== undefined && own.hash !== stored.hash)
  if (!isFork) return { kind: 'lost', stored }
  const there = await store.query({ afterSeq: (kept[0]?.seq ?? 1) - 1 }, { limit: Math.max(1, kept.length) })
  const hashes = new Set(there.map(({ hash }) => hash))
  return { kind: 'forked', stored, missing: kept.filter(({ hash }) => !hashes.has(hash)) }
}

const prevSchema = z.object({ prev: z.string() })
const detailSchema = z.object({ detail: z.record(z.string(), z.unknown()) })

/** The hash that a row follows. */
export const prevOf = ({ body }: AuditRow): string => prevSchema.parse(JSON.parse(body)).prev

/** The record that columns are of, but for its detail. */
const recordOf = ({ id, event, outcome, tenant, user, server, downstream }: Columns): Entry['record'] => ({
  id,
  event: event as Entry['record']['event'],
  outcome: outcome as Entry['record']['outcome'],
  ...(tenant === null ? {} : { tenant }),
  ...(user === null ? {} : { user }),
  ...(server === null ? {} : { server }),
  ...(downstream === null ? {} : { downstream }),
})

/** A row as the record that it was, to be linked anew. */
export const toEntry = (row: AuditRow): Entry => ({
  at: row.at,
  detail: JSON.stringify(detailSchema.parse(JSON.parse(row.body)).detail),
  record: recordOf(row),
})

/** Says of a record in the store that its caller was refused. */
export const problemOfRow = (row: Columns & { readonly seq: number }, problem: string, now: number): Entry => ({
  record: { ...recordOf(row), event: 'audit.unconfirmed', outcome: 'failed' },
  detail: JSON.stringify({ record: row.seq, recorded: row.event, problem }),
  at: now,
})

/** Rows that are written again in one statement. */
const PAGE = 512

/**
 * Writes what is still in memory again: the very rows, so that the chain is as it was.
 * @returns how many rows, and those that stay gone
 */
export const writeRowsAgain = async (
  store: AuditStore,
  { stored, head, kept }: { stored: Head; head: Head; kept: readonly AuditRow[] },
): Promise<{ count: number; gone: Gap | null; last: Head }> => {
  const rows = kept.filter(({ seq }) => seq > stored.seq)
  const [first] = rows
  const gone = {
    from: stored.seq + 1,
    to: first === undefined ? head.seq : first.seq - 1,
    after: stored.hash,
    before: first === undefined ? head.hash : prevOf(first),
  }
  let last = stored
  for (let at = 0; at < rows.length; at += PAGE) {
    const page = rows.slice(at, at + PAGE)
    await store.append(page, last)
    last = page.at(-1)!
  }
  return {
    count: rows.length,
    gone: gone.from > gone.to ? null : gone,
    last: { seq: last.seq, hash: last.hash },
  }
}
