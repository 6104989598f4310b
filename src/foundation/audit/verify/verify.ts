import type { AuditStore } from '#foundation/store'
import { gapText, removedText, type Gap } from '../continuity.ts'
import type { VerifySignature } from '../format/signature.ts'
import { recordPages } from '../pages.ts'
import { walkFiles } from './files.ts'
import { tableLines } from './tables.ts'
import {
  ChainWalk,
  type Claim,
  ORDER_EVENTS,
  type KnownHead,
  type KnownOfChain,
  type Problem,
  type Walked,
} from './walk.ts'

/** Records that are not there any more, as the node says that wrote them. */
export interface Missing {
  readonly node: string
  readonly from: number
  readonly to: number
  /** When the node noted it (ms since the epoch). */
  readonly at: number
  /** The number of the record that says so. */
  readonly record: number
}

/** Whether the chains hold, and if not, from which record on and why. */
export interface Verification {
  readonly ok: boolean
  readonly nodes: readonly string[]
  readonly records: number
  readonly checkpoints: number
  /** Records behind the last checkpoints. */
  readonly unsigned: number
  readonly head: string
  /** Records that the store has lost: the node had them confirmed, and noticed. */
  readonly losses: readonly Missing[]
  /** Records that were removed after their time. */
  readonly removed: readonly Missing[]
  readonly problem?: Problem
}

/** Whether this installation wrote the proof of a text. */
export type IsProved = (text: string, proof: string) => boolean

interface Judged {
  readonly losses: readonly Missing[]
  readonly removed: readonly Missing[]
  readonly problem?: Problem
}

/** The claims of removed ranges that together are a gap; none where they are not all of it. */
const claimsOver = (gap: Gap, removals: ReadonlyMap<number, Claim>): Claim[] => {
  const found: Claim[] = []
  for (let { from, after } = gap; from <= gap.to;) {
    const claim = removals.get(from)
    // How the chain began has two forms; each is nothing that was before it.
    if (claim === undefined || (from > 1 && claim.range.after !== after)) return []
    found.push(claim)
    from = claim.range.to + 1
    after = claim.range.before
  }
  const last = found.at(-1)?.range
  return last?.to === gap.to && last.before === gap.before ? found : []
}

/**
 * What a walk found, with its claims held against their proofs: the chain needs no key, so who can write the store
 * could write such a record, too.
 */
export const judge = ({ node, gaps, removed, claims, problem }: Walked, isProved: IsProved): Judged => {
  const proved = new Map(claims.filter(({ text, proof }) => isProved(text, proof)).map((claim) => [claim.text, claim]))
  const problems = problem === undefined ? [] : [problem]
  const explained = (ranges: readonly Gap[], textOf: typeof gapText, why: (range: Gap) => string): Missing[] =>
    ranges.flatMap((range) => {
      const claim = proved.get(textOf(node, range))
      if (claim !== undefined) return [{ node, from: range.from, to: range.to, at: claim.at, record: claim.record }]
      problems.push({ seq: range.to + 1, why: why(range) })
      return []
    })
  const removals = new Map(
    [...proved.values()].filter(({ isRemoval }) => isRemoval).map((claim) => [claim.range.from, claim]),
  )
  // A store that was copied into tables after records had left has no footers, and the ranges are gaps there.
  const left = gaps.flatMap((gap) => claimsOver(gap, removals))
  const isLeft = ({ from, to }: Gap): boolean => left.some(({ range }) => range.from >= from && range.to <= to)
  const losses = explained(
    gaps.filter((gap) => !isLeft(gap)),
    gapText,
    ({ from, to }) => (from === to ? `record ${from} is missing` : `records ${from} to ${to} are missing`),
  )
  const pruned = explained(
    removed,
    removedText,
    ({ from, to }) =>
      `records ${from} to ${to} are gone, and no record of this installation says that they were removed`,
  )
  const [first] = problems.sort((a, b) => a.seq - b.seq)
  const copied = left.map(({ range: { from, to }, at, record }) => ({ node, from, to, at, record }))
  return { losses, removed: [...pruned, ...copied], ...(first === undefined ? {} : { problem: first }) }
}

/** What a verifier knows of all chains. */
export interface KnownOfAll {
  readonly installation: string
  readonly verifySignature: VerifySignature
  readonly isProved: IsProved
  readonly heads?: readonly KnownHead[]
}

/** Walks along one chain of a store. */
export type WalkChain = (known: KnownOfChain) => Promise<Walked>

/** Walks along a chain that is kept in tables. */
export const walkTables =
  (store: AuditStore): WalkChain =>
  async (known) => {
    const walk = new ChainWalk(known)
    for await (const line of tableLines(store, known.chain.node)) if (!walk.add(line)) break
    return walk.finish()
  }

/** Walks along a chain that is kept in segment files. */
const walkSegments =
  (segments: NonNullable<AuditStore['segments']>): WalkChain =>
  async (known) => {
    const walk = new ChainWalk(known)
    await walkFiles(walk, await segments(known.chain.node))
    return walk.finish()
  }

/** Walks along the chains of a store where it keeps them, on this thread. */
const walkHere = (store: AuditStore): WalkChain =>
  store.segments === undefined ? walkTables(store) : walkSegments((of) => store.segments!(of))

/**
 * Whether a search in segments finds every order. The index is no part of the chain, and who can write it could hide an
 * order from a start, which puts back those that the database has lost.
 */
const hiddenOrder = async (store: AuditStore, { node, orders }: Walked): Promise<Problem | undefined> => {
  if (store.segments === undefined || orders.length === 0) return undefined
  const found = new Set<string>()
  for (const event of ORDER_EVENTS)
    for await (const page of recordPages(store, { node, event })) for (const { hash } of page) found.add(hash)
  const hidden = orders.find(({ hash }) => !found.has(hash))
  return hidden === undefined
    ? undefined
    : {
        seq: hidden.seq,
        why: 'searches do not find it, which is an order of an admin: the index was altered; stop the daemon, remove index.db beside the segments, and start it again',
      }
}

/**
 * Verifies the chain of every node that has one, or had one as a known head says: the own first. Of one that does not
 * hold, the first problem is told.
 */
export const verifyChains = async (
  store: AuditStore,
  { installation, verifySignature, isProved, heads = [] }: KnownOfAll,
  walk: WalkChain = walkHere(store),
): Promise<Verification> => {
  const nodes = [...new Set([store.node, ...(await store.chains()), ...heads.map(({ node }) => node)])]
  const losses: Missing[] = []
  const removed: Missing[] = []
  const total = { records: 0, checkpoints: 0, unsigned: 0 }
  let head = ''
  const foreign = heads.find((known) => known.installation !== installation)
  for (const node of nodes) {
    const walked = await walk({
      chain: { installation, node },
      verifySignature,
      heads: heads.filter((known) => known.installation === installation),
    })
    const judged = judge(walked, isProved)
    losses.push(...judged.losses)
    removed.push(...judged.removed)
    total.records += walked.records
    total.checkpoints += walked.checkpoints
    total.unsigned += walked.unsigned
    if (node === store.node) head = walked.head
    const problem = judged.problem ?? (await hiddenOrder(store, walked))
    if (problem !== undefined) {
      const { seq, why } = problem
      return { ok: false, nodes, ...total, head, losses, removed, problem: { seq, why: `of the node ${node}: ${why}` } }
    }
  }
  if (foreign !== undefined)
    return {
      ok: false,
      nodes,
      ...total,
      head,
      losses,
      removed,
      problem: {
        seq: foreign.seq,
        why: `${foreign.source} knows record ${foreign.seq} of the node ${foreign.node} of another installation: the store was emptied or replaced`,
      },
    }
  return { ok: true, nodes, ...total, head, losses, removed }
}
