import type { AuditCheckpoint, AuditFilter, AuditRow } from '#foundation/store'
import type { Durable } from '../writer.ts'

export interface IndexThread {
  readonly folder: string
  readonly node: string
}

/** What is asked of the thread of the index. It takes in everything that is durable before it answers. */
export type IndexRequest = { readonly id: number } & (
  | {
      readonly kind: 'query'
      readonly durable: Durable
      readonly filter: AuditFilter
      readonly page: { readonly limit: number; readonly last?: boolean }
    }
  | {
      readonly kind: 'checkpoints'
      readonly durable: Durable
      readonly page: { readonly afterSeq: number; readonly limit: number }
    }
  | { readonly kind: 'feed'; readonly durable: Durable }
  /** Records up to this number were removed. */
  | { readonly kind: 'forget'; readonly durable: Durable; readonly upTo: number }
  | { readonly kind: 'close' }
)

/** One with id 0 says that a long piece of work goes on. */
export interface IndexReply {
  readonly id: number
  readonly rows?: readonly AuditRow[]
  readonly checkpoints?: readonly AuditCheckpoint[]
  readonly problem?: string
}
