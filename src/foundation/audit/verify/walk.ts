import { z } from 'zod'
import type { AuditCheckpoint } from '#foundation/store'
import { gapSchema, gapText, removedText, type Gap, type Range } from '../continuity.ts'
import { EARLIER_GENESIS, emptyChain, hashOf, placeIn, type ChainName, type Head } from '../format/chain.ts'
import { isCheckpointSigned } from '../format/checkpoint.ts'
import { isFooterSigned, type SegmentFooter, type SegmentHeader, type SegmentLine } from '../format/segment.ts'
import type { VerifySignature } from '../format/signature.ts'

/** A head of a chain that was kept where the store's owner is not. */
export interface KnownHead extends Head, ChainName {
  /** Who knows it, as the subject of a sentence. */
  readonly source: string
  /** The number of the checkpoint that signed it; null where none did. */
  readonly number: number | null
}

/** What a verifier knows of a chain without the store. */
export interface KnownOfChain {
  readonly chain: ChainName
  readonly verifySignature: VerifySignature
  readonly heads?: readonly KnownHead[]
}

/** From which record on a chain does not hold, and why. */
export interface Problem {
  readonly seq: number
  readonly why: string
}

/** A record that says that others are gone, and its proof, which is still to be checked. */
export interface Claim {
  /** The records that are gone, and whether they were removed after their time. */
  readonly range: Gap
  readonly isRemoval: boolean
  readonly text: string
  readonly proof: string
  readonly record: number
  /** When it was written (ms since the epoch). */
  readonly at: number
}

/** What a walk along a chain found. Records that are missing are a fault unless one of the claims is proved. */
export interface Walked {
  readonly node: string
  /** The number of the last record. */
  readonly records: number
  readonly checkpoints: number
  /** The records behind the last checkpoint: no signature says yet that this installation wrote them. */
  readonly unsigned: number
  readonly head: string
  readonly gaps: readonly Gap[]
  /** Ranges whose records were removed, by the footers that stayed. */
  readonly removed: readonly Range[]
  readonly claims: readonly Claim[]
  /** Its records of orders, which searches must find. */
  readonly orders: readonly Head[]
  readonly problem?: Problem
}

/** A record as it stands in a chain: its hash and its text. */
export type RecordText = Extract<SegmentLine, { kind: 'record' }>

/** A line of a chain, or what is wrong with the place where the store keeps it. */
export type ChainLine = SegmentLine | ({ readonly kind: 'fault' } & Problem)

const EVENT = '"event":"'
/** The events of records that say that others are gone. */
const CLAIMS = ['store.lost"', 'audit.prune"'] as const

/** A start puts these in force again where the database has lost them: it searches for them. */
export const ORDER_EVENTS = ['revocation', 'user.disable', 'user.enable', 'tenant.freeze', 'tenant.thaw'] as const
const ORDERS = ORDER_EVENTS.map((event) => `${event}"`)

const claimSchema = z.object({
  at: z.number(),
  detail: z.object({
    records: z.object({ gone: gapSchema.nullable(), proof: z.string().optional() }).optional().catch(undefined),
    removed: z
      .object({ ranges: z.array(gapSchema.extend({ proof: z.string() })) })
      .optional()
      .catch(undefined),
  }),
})

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A checkpoint before this one is missing: they are numbered without gaps. */
const isMissed = (last: number | null, { number }: AuditCheckpoint): boolean =>
  last === null ? number !== null && number !== 1 : number !== last + 1

/** Ends a walk. */
class Found extends Error {
  readonly problem: Problem

  constructor(seq: number, why: string) {
    super(why)
    this.problem = { seq, why }
  }
}

/**
 * Walks along one chain, line by line, and holds it against its checkpoints and the heads that are known elsewhere. A
 * changed, missing or moved record breaks the chain; an end that was cut off or written anew is missed by a checkpoint
 * or a known head.
 */
export class ChainWalk {
  readonly #known: KnownOfChain
  readonly #heads: KnownHead[]
  /** The number of the last checkpoint that is known elsewhere. */
  readonly #signedUpTo: number
  /** The number of the last record that a checkpoint or a footer has signed. */
  #signedSeq = 0
  /** A record of it is known elsewhere. */
  readonly #isKnown: boolean
  #head: Head
  #checkpoints = 0
  /** The number of the checkpoint before; undefined where it may be gone with the records that it signed. */
  #last: number | null | undefined = null
  /** Checkpoints of records that have not come: they are gone with those, or the chain was cut. */
  #ahead: AuditCheckpoint[] = []
  readonly #gaps: Gap[] = []
  readonly #removed: Range[] = []
  readonly #claims: Claim[] = []
  readonly #orders: Head[] = []
  #segment: { readonly number: number; readonly open: boolean } | undefined
  /** It begins as chains did before they were bound to an installation: anyone can begin one so. */
  #isUnbound = false
  #problem: Problem | undefined

  constructor(known: KnownOfChain) {
    this.#known = known
    this.#head = emptyChain(known.chain)
    this.#heads = (known.heads ?? []).filter(({ node }) => node === known.chain.node).sort((a, b) => a.seq - b.seq)
    this.#isKnown = this.#heads.some(({ seq }) => seq > 0)
    this.#signedUpTo = Math.max(0, ...this.#heads.map(({ number }) => number ?? 0))
  }

  /** @returns false where the chain does not hold: what comes after says nothing any more */
  add(line: ChainLine): boolean {
    return this.#attempt(() => {
      if (line.kind === 'record') this.#record(line)
      else if (line.kind === 'checkpoint') this.#checkpoint(line.checkpoint)
      else if (line.kind === 'header') this.#header(line.header)
      else if (line.kind === 'footer') this.#removedSegment(line.footer)
      else throw new Found(line.seq, line.why)
    })
  }

  /** A footer behind the records of its segment. @param content the bytes before it, and their SHA-256 */
  addFooter(footer: SegmentFooter, content: { readonly bytes: number; readonly digest: string }): boolean {
    return this.#attempt(() => {
      this.#signed(footer)
      const { number, last, head } = footer
      if (this.#segment?.number !== number) throw new Found(last, `the footer of segment ${number} ends another one`)
      if (last !== this.#head.seq || head !== this.#head.hash)
        throw new Found(last, `the footer of segment ${number} was signed for other records`)
      if (footer.bytes !== content.bytes || footer.digest !== content.digest)
        throw new Found(last, `segment ${number} is not what its footer signed`)
      this.#signedSeq = last
      this.#segment = { number, open: false }
    })
  }

  /** What is wrong with the place where a chain is kept. */
  fault(why: string): boolean {
    return this.#attempt(() => {
      throw new Found(this.#head.seq + 1, why)
    })
  }

  finish(): Walked {
    this.#attempt(() => {
      const [missed] = this.#ahead
      if (missed !== undefined)
        throw new Found(
          missed.seq,
          `the chain ends at record ${this.#head.seq}, and a checkpoint signed record ${missed.seq}: the tail was cut off`,
        )
      const beyond = this.#heads.at(-1)
      if (beyond !== undefined && beyond.seq > this.#head.seq)
        throw new Found(
          this.#head.seq + 1,
          `the chain ends at record ${this.#head.seq}, and ${beyond.source} knows record ${beyond.seq}: its last records were removed, or an older copy of the store was put back`,
        )
      if (this.#last !== undefined && (this.#last ?? 0) < this.#signedUpTo)
        throw new Found(
          this.#head.seq,
          `its checkpoints end with number ${this.#last ?? 0}, and number ${this.#signedUpTo} is known: the last checkpoints were removed`,
        )
      if (this.#isUnbound && this.#checkpoints === 0 && !this.#isKnown)
        throw new Found(1, 'no checkpoint signs any of its records, and it begins as a chain of any installation may')
    })
    return {
      node: this.#known.chain.node,
      records: this.#head.seq,
      checkpoints: this.#checkpoints,
      unsigned: this.#head.seq - this.#signedSeq,
      head: this.#head.hash,
      gaps: this.#gaps,
      removed: this.#removed,
      claims: this.#claims,
      orders: this.#orders,
      ...(this.#problem === undefined ? {} : { problem: this.#problem }),
    }
  }

  #attempt(step: () => void): boolean {
    if (this.#problem !== undefined) return false
    try {
      step()
      return true
    } catch (error) {
      if (!(error instanceof Found)) throw error
      this.#problem = error.problem
      return false
    }
  }

  #record({ hash, body }: RecordText): void {
    const { seq, hash: before } = this.#head
    if (!body.startsWith(`{"seq":${seq + 1},"prev":"${before}",`)) this.#step(body)
    const next = this.#head.seq + 1
    if (hashOf(body) !== hash) throw new Found(next, 'its text does not have its hash: it was altered')
    if (this.#ahead.length > 0) throw new Found(next, 'a checkpoint stands before the record that it signed')
    this.#head = { seq: next, hash }
    const at = body.indexOf(EVENT) + EVENT.length
    if (CLAIMS.some((event) => body.startsWith(event, at))) this.#claim(body)
    if (ORDERS.some((event) => body.startsWith(event, at))) this.#orders.push(this.#head)
    while (this.#heads[0] !== undefined && this.#heads[0].seq <= next) this.#compare(this.#heads.shift()!)
  }

  /** A record that does not follow the one before: there is a gap, or it was altered. */
  #step(body: string): void {
    const { seq, hash } = this.#head
    const place = placeIn(body)
    if (place === undefined) throw new Found(seq + 1, 'its text is no record')
    const { seq: number, prev } = place
    if (number === seq + 1) {
      if (seq === 0 && prev === EARLIER_GENESIS) {
        this.#isUnbound = true
        return
      }
      throw new Found(
        number,
        seq === 0
          ? 'it does not begin a chain of this installation and node'
          : 'it does not follow the record before it: one of them was altered, removed or moved',
      )
    }
    if (number <= seq)
      throw new Found(number, `it comes after record ${seq}: one of them was altered, removed or moved`)
    this.#gaps.push({ from: seq + 1, to: number - 1, after: hash, before: prev })
    this.#skipTo({ seq: number - 1, hash: prev })
  }

  /** Goes on behind records that are not there. */
  #skipTo(head: Head): void {
    this.#head = head
    // What a checkpoint or a known head says of a record that is gone cannot be compared any more.
    if (this.#ahead.some(({ seq }) => seq > head.seq))
      throw new Found(head.seq, 'a checkpoint stands before the record that it signed')
    this.#ahead = []
    this.#last = undefined
    while (this.#heads[0] !== undefined && this.#heads[0].seq <= head.seq) {
      const known = this.#heads.shift()!
      if (known.seq === head.seq) this.#compare(known)
    }
  }

  #compare({ seq, hash, source }: KnownHead): void {
    if (seq === this.#head.seq && hash !== this.#head.hash)
      throw new Found(
        seq,
        `${source} knows another record ${seq}: the end of the chain was written anew, or another copy of the store was put back`,
      )
  }

  #checkpoint(checkpoint: AuditCheckpoint): void {
    const { seq, hash, number } = checkpoint
    this.#checkpoints += 1
    if (!isCheckpointSigned(this.#known.chain, checkpoint, this.#known.verifySignature))
      throw new Found(seq, 'the signature of its checkpoint is wrong')
    if (seq > this.#head.seq) {
      this.#ahead.push(checkpoint)
      return
    }
    if (seq < this.#head.seq) throw new Found(seq, 'its checkpoint does not stand behind it')
    if (hash !== this.#head.hash) throw new Found(seq, 'it is not the record that its checkpoint signed')
    if (this.#last !== undefined && isMissed(this.#last, checkpoint))
      throw new Found(seq, 'a checkpoint before it is missing')
    this.#signedSeq = seq
    this.#last = number
  }

  #header({ installation, node, number, first, after }: SegmentHeader): void {
    const { chain } = this.#known
    if (this.#segment?.open === true) throw new Found(first, `segment ${this.#segment.number} has no footer`)
    this.#follows({ installation, node, number, first, after }, chain)
    this.#segment = { number, open: true }
  }

  #follows(
    {
      installation,
      node,
      number,
      first,
      after,
    }: Pick<SegmentHeader, 'installation' | 'node' | 'number' | 'first' | 'after'>,
    chain: ChainName,
  ): void {
    const { seq, hash } = this.#head
    if (installation !== chain.installation || node !== chain.node)
      throw new Found(first, `segment ${number} is of the node ${node} of another installation or chain`)
    const expected = (this.#segment?.number ?? 0) + 1
    if (number !== expected) throw new Found(seq + 1, `segment ${expected} is missing`)
    if (first !== seq + 1 || (after !== hash && !(seq === 0 && after === EARLIER_GENESIS)))
      throw new Found(first, `segment ${number} does not follow what comes before it`)
  }

  /** A footer whose records were removed. */
  #removedSegment(footer: SegmentFooter): void {
    const { number, first, last, head, after } = footer
    if (this.#segment?.open === true) throw new Found(first, `segment ${this.#segment.number} has no footer`)
    this.#signed(footer)
    this.#follows(footer, this.#known.chain)
    this.#removed.push({ from: first, to: last, after, before: head })
    this.#skipTo({ seq: last, hash: head })
    this.#signedSeq = last
    this.#segment = { number, open: false }
  }

  #signed(footer: SegmentFooter): void {
    if (!isFooterSigned(footer, this.#known.verifySignature))
      throw new Found(footer.last, `the signature of the footer of segment ${footer.number} is wrong`)
  }

  #claim(body: string): void {
    const parsed = claimSchema.safeParse(jsonOf(body)).data
    if (parsed === undefined) return
    const { at, detail } = parsed
    const { node } = this.#known.chain
    const claim = (isRemoval: boolean, range: Gap, proof: string): void => {
      const text = isRemoval ? removedText(node, range) : gapText(node, range)
      this.#claims.push({ range, isRemoval, text, proof, record: this.#head.seq, at })
    }
    if (detail.records?.gone != null && detail.records.proof !== undefined)
      claim(false, detail.records.gone, detail.records.proof)
    for (const { proof, ...range } of detail.removed?.ranges ?? []) claim(true, range, proof)
  }
}
