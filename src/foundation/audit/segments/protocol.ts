import type { AuditCheckpoint, SegmentFile } from '#foundation/store'
import type { ChainName, Head } from '../format/chain.ts'
import type { SegmentFooter, UnsignedFooter } from '../format/segment.ts'
import type { SealedSegment } from './folder.ts'
import type { Batch, Durable, Placed, Recovery, SegmentRules } from './writer.ts'

/** What the thread that writes a chain begins with. */
export interface WriterThread {
  readonly folder: string
  readonly chain: ChainName
  readonly rules: SegmentRules
}

/** What is asked of the thread that writes a chain. */
export type WriterRequest = { readonly id: number } & (
  | ({ readonly kind: 'append' } & Batch)
  /** Records that have their places already, see `SegmentWriter.appendPlaced`. */
  | { readonly kind: 'place'; readonly records: readonly Placed[]; readonly after?: string; readonly asIs?: boolean }
  | { readonly kind: 'checkpoint'; readonly checkpoint: AuditCheckpoint; readonly asIs?: boolean }
  /** What is to be signed to seal the segment now. */
  | { readonly kind: 'footer'; readonly now: number }
  | { readonly kind: 'seal'; readonly footer: SegmentFooter }
  | { readonly kind: 'probe'; readonly now: number }
  | { readonly kind: 'files' }
  | { readonly kind: 'sealed' }
  /** What stays of segments whose records are about to be removed, and that they are. */
  | { readonly kind: 'leave' | 'remove'; readonly numbers: readonly number[] }
  | { readonly kind: 'close' }
)

/** Where the chain stands after a request. */
export interface ChainState {
  readonly head: Head
  readonly durable: Durable
  /** The segment is to be sealed. */
  readonly isDue: boolean
}

export interface Failure {
  readonly problem: string
  /** The chain ends otherwise than what was to be added follows. */
  readonly conflict?: boolean
}

export type WriterReply = { readonly id: number } & (
  | (ChainState & {
      readonly footer?: UnsignedFooter
      readonly files?: readonly SegmentFile[]
      readonly sealed?: readonly SealedSegment[]
    })
  | Failure
)

/** The first message of the thread. */
export type WriterStart =
  | (ChainState & { readonly recovery: Recovery; readonly checkpoint: AuditCheckpoint | undefined })
  /** @param held another process writes there */
  | (Failure & { readonly held?: boolean; readonly path?: string; readonly byte?: number })
