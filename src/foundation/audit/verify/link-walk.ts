import { emptyChain, placeIn, type ChainName, type Head } from '../format/chain.ts'
import type { SegmentFooter, SegmentLine } from '../format/segment.ts'
import { walkBytes, type LineTaker } from './files.ts'
import { ChainWalk, type ChainLine, type Problem } from './walk.ts'

/** What a walk without keys has found. */
export interface LinksWalked {
  /** Undefined where there was no line. */
  readonly chain: ChainName | undefined
  readonly head: Head
  readonly problem: Problem | undefined
}

/** A record as it passes: its number, its hash and its text. */
export type RecordPassed = (record: Head & { readonly body: string }) => void

/**
 * Walks along a chain without the keys of its installation: whether each record follows the one before it, and each sealed segment is
 * what its footer says. Signatures are left to `deputy audit verify`.
 */
export class LinkWalk implements LineTaker {
  readonly #passed: RecordPassed | undefined
  #walk: ChainWalk | undefined
  #chain: ChainName | undefined
  #head: Head = { seq: 0, hash: '' }

  constructor(passed?: RecordPassed) {
    this.#passed = passed
  }

  /** Gives it the bytes of the next file. @returns false where the chain does not hold */
  file(name: string, chunks: AsyncIterable<Buffer>): Promise<boolean> {
    return walkBytes(this, name, chunks)
  }

  add(line: ChainLine): boolean {
    const holds = this.#walkFor(line).add(line)
    if (!holds) return false
    if (line.kind === 'record') {
      this.#head = { seq: placeIn(line.body)!.seq, hash: line.hash }
      this.#passed?.({ ...this.#head, body: line.body })
    } else if (line.kind === 'footer') this.#head = { seq: line.footer.last, hash: line.footer.head }
    return true
  }

  addFooter(footer: SegmentFooter, content: { readonly bytes: number; readonly digest: string }): boolean {
    return this.#walkFor({ kind: 'footer', footer }).addFooter(footer, content)
  }

  fault(why: string): boolean {
    return (this.#walk ?? this.#begin({ installation: '', node: '' })).fault(why)
  }

  finish(): LinksWalked {
    const problem = this.#walk?.finish().problem
    const head =
      this.#chain === undefined || this.#head.seq > 0 ? this.#head : { seq: 0, hash: emptyChain(this.#chain).hash }
    return { chain: this.#chain, head, problem }
  }

  /** The first line says whose chain it is. */
  #walkFor(line: ChainLine | SegmentLine): ChainWalk {
    if (this.#walk !== undefined) return this.#walk
    const name = line.kind === 'header' ? line.header : line.kind === 'footer' ? line.footer : undefined
    this.#chain = name === undefined ? undefined : { installation: name.installation, node: name.node }
    return this.#begin(this.#chain ?? { installation: '', node: '' })
  }

  #begin(chain: ChainName): ChainWalk {
    this.#walk = new ChainWalk({ chain, verifySignature: () => true })
    return this.#walk
  }
}
