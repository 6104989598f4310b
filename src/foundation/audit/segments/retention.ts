import type { IndexConnection } from './index/index-connection.ts'
import { removedText } from '../continuity.ts'
import type { SealedSegment } from './folder.ts'
import type { WriterConnection } from './writer-connection.ts'

/**
 * How long records are kept: a segment whose last record is older (ms), or the oldest ones of a log that is larger
 * (bytes).
 */
export interface RetentionRules {
  readonly age?: number | undefined
  readonly size?: number | undefined
}

export interface PruneOptions {
  readonly rules: RetentionRules
  readonly now: number
  /** The last record that every sink has: none is removed before it has left. */
  readonly confirmed: number
  /** Proves that this installation wrote a text. */
  readonly prove: (text: string) => string
  /** Writes the record `audit.prune`, which explains what is gone. */
  readonly record: (detail: { readonly removed: { readonly ranges: readonly object[] } }) => Promise<void>
}

/** What a call of `prune` removed. */
export interface Pruned {
  readonly segments: number
  /** The numbers of the first and the last record; null where there was nothing to remove. */
  readonly from: number | null
  readonly to: number | null
}

/**
 * The segments whose time is over: the oldest ones, without a gap, and never the newest of the sealed ones, because the
 * next start reads the last checkpoint there.
 */
export const removableSegments = (
  sealed: readonly SealedSegment[],
  { age, size }: RetentionRules,
  { now, confirmed }: Pick<PruneOptions, 'now' | 'confirmed'>,
): readonly SealedSegment[] => {
  const there = sealed.filter(({ removed }) => !removed)
  let total = there.reduce((sum, { bytes }) => sum + bytes, 0)
  const removable: SealedSegment[] = []
  for (const segment of there.slice(0, -1)) {
    const { footer, bytes } = segment
    const isOver =
      footer !== undefined &&
      footer.last <= confirmed &&
      // The clock may have been put back while it was written: its last record is not always its newest.
      ((age !== undefined && now - Math.max(footer.from, footer.to, footer.sealed) > age) ||
        (size !== undefined && total > size))
    if (!isOver) break
    removable.push(segment)
    total -= bytes
  }
  return removable
}

/** The range of a removed segment as a record explains it, with its proof. */
const rangeOf = (node: string, { footer }: SealedSegment, prove: PruneOptions['prove']): object[] => {
  if (footer === undefined) return []
  const range = { from: footer.first, to: footer.last, after: footer.after, before: footer.head }
  return [{ ...range, proof: prove(removedText(node, range)) }]
}

/**
 * Removes the records of segments whose time is over. Their footers stay, and a record explains each: of those that
 * were removed before as well, because the record that explained them goes with its own segment one day. The record is
 * durable before anything is removed, so that a kill in between leaves records that are still there.
 * @throws DeputyError `store_unavailable`, `audit_unavailable`
 */
export const prune = async (
  {
    connection,
    index,
    node,
  }: { readonly connection: WriterConnection; readonly index: IndexConnection; readonly node: string },
  options: PruneOptions,
): Promise<Pruned> => {
  const { sealed = [] } = await connection.ask({ kind: 'sealed' })
  const removable = removableSegments(sealed, options.rules, options)
  const [first, last] = [removable[0]?.footer, removable.at(-1)?.footer]
  if (first === undefined || last === undefined) return { segments: 0, from: null, to: null }
  const numbers = removable.map(({ number }) => number)
  await connection.ask({ kind: 'leave', numbers })
  const gone = sealed.filter((segment) => segment.removed || removable.includes(segment))
  await options.record({ removed: { ranges: gone.flatMap((segment) => rangeOf(node, segment, options.prove)) } })
  await connection.ask({ kind: 'remove', numbers })
  await index.ask({ kind: 'forget', durable: connection.state.durable, upTo: last.last })
  return { segments: numbers.length, from: first.first, to: last.last }
}
